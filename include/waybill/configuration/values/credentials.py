"""Recognises credentials by name and by value. The patterns are pure, and the caller decides what happens.

A name is judged by its words (`accessToken`, `access-token` and `ACCESS_TOKEN` are one). It is a secret if it names one, unless its first
or last word says that it only tells something about one (`token_count`, `password_changed_at`, `has_password`).
"""

from __future__ import annotations

import re
import unicodedata


def _listed(text: str) -> frozenset[str]:
    return frozenset(text.split())


_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[^\W\d_A-Za-z]+")
_SECRET_WORD = re.compile(
    r"passw(?:or)?ds?$|password|passphrase|passcode|^pwd$|secrets?$|secretkey|secretaccess|credentials?$|tokens?$|^jwts?$|^cvv2?$|^cvc2?$"
    r"|apikeys?$|accesskeys?$|privatekeys?$|privkeys?$|encryptionkeys?$|signingkeys?$|masterkeys?$|connectionstrings?$|^dsn$"
)
_SECRET_KEYS = _listed(
    "api access secret private encryption encrypted encrypting decryption signing master webhook ssh gpg pgp deploy hmac aes rsa ecdsa"
    " ed25519 cipher auth shared fernet jwt wrapping recovery symmetric crypto kms"
)
"""Words that make a `key` a secret one. `primary_key`, `public_key`, `session_key` or a bare `key` are names of rows or objects."""
_SECRET_PAIRS = frozenset(
    [
        ("connection", "string"),
        ("recovery", "code"),
        ("mfa", "seed"),
        ("otp", "seed"),
        ("totp", "seed"),
        ("bcrypt", "hash"),
        ("bcrypt", "digest"),
        ("pin", "code"),
        ("pin", "hash"),
        ("recovery", "codes"),
        ("backup", "codes"),
        ("set", "cookie"),
        ("auth", "cookie"),
        ("session", "cookie"),
        ("proxy", "authorization"),
        ("auth", "header"),
        ("authorization", "header"),
        ("oauth", "access"),
        ("oauth", "refresh"),
    ]
)
_SECRET_ALONE = _listed("auth authorization bearer cookie cookies dek")
"""Names of secrets only if there is nothing beside them."""
_TELLS_ABOUT = _listed(
    "at on date time timestamp day days age expires expiry expired expiration expiring ttl lifetime duration seconds count counts total"
    " number usage used uses limit quota budget cost price balance rate type types kind status state strength length size policy rule rules"
    " required enabled disabled active present exists set changed updated created rotated revoked issued verified version algorithm alg"
    " scope scopes issuer audience name label title description hint id ids arn url uri endpoint provider source format prefix last4"
    " fingerprint thumbprint level attempts failures resets reset changes requests symbol"
)
_ASKS_ABOUT = _listed("is has have had needs requires uses allow allows num number count total max min avg mean sum remaining")
_COUNTED_TOKENS = _listed("prompt completion input output cached reasoning used billed generated context text audio image")


_ABROAD = (
    "kennwort passwort losungswort zugangsdaten geheimschlussel",  # German
    "mot_de_passe motdepasse _mdp_ _jeton_ cle_api_ cle_privee cle_secrete cle_d_acces cle_acces",  # French
    "contrasen _contrasenia clave_secreta clave_privada clave_api_ clave_de_acceso clave_acceso claveacceso",  # Spanish
    "_senha palavra_passe palavrapasse chave_privada chave_secreta chave_api_ chave_de_acesso",  # Portuguese
    "parola_d_ordine parola_ordine chiave_privata chiave_segreta chiave_api_",  # Italian
    "wachtwoord api_sleutel prive_sleutel privesleutel losenord passord_ adgangskode kodeord salasana lykilord",  # Dutch, the North
    "_haslo _heslo _geslo_ _lozinka klucz_api_ klucz_prywatny soukromy_klic jelszo parool slaptazodis",  # Poland to the Baltic
    "_sifre _parola_ kata_sandi katasandi mat_khau matkhau",  # Turkish, Romanian, Indonesian, Vietnamese
    "пароль пароля парола лозинка токен секретный_ключ приватный_ключ закрытый_ключ κωδικος_προσβασης συνθηματικο",
    "密码 密碼 口令 密钥 密鑰 令牌 私钥 私鑰 パスワート 暗証番号 秘密鍵 トークン 비밀번호 암호 토큰 비밀키",
    "كلمة_المرور كلمة_السر رمز_عبور گذرواژه סיסמה סיסמא पासवर्ड รหัสผ่าน",
)
"""Words for a password, a token and a secret key in other languages, without accents. `_` is the edge of a word."""
_WITHOUT_ACCENTS = str.maketrans({"ł": "l", "Ł": "L", "ı": "i", "ø": "o", "Ø": "O", "đ": "d", "ß": "ss", "æ": "ae", "œ": "oe"})


def _plain(text: str) -> str:
    """Return letters without accents and vowel marks."""
    letters = (char for char in unicodedata.normalize("NFKD", text) if unicodedata.category(char) not in ("Mn", "Mc", "Cf"))
    return unicodedata.normalize("NFC", "".join(letters)).translate(_WITHOUT_ACCENTS)


_SECRET_ABROAD = re.compile("|".join(_plain(word) for line in _ABROAD for word in line.split()))
ABROAD_PATTERN = "|".join(sorted({max(word.split("_"), key=len) for line in _ABROAD for word in line.split() if word.isascii()}))
"""Every text with such a name that has ASCII letters alone matches this, whatever the case. It is the longest part of each word."""


def words(name: str) -> list[str]:
    """Return the words of a name in lower case."""
    shown = "".join(char for char in unicodedata.normalize("NFKC", name) if unicodedata.category(char) != "Cf")
    return [word.lower() for word in _WORDS.findall(shown)]


def looks_secret(name: str) -> bool:
    """Return whether something of this name, in any of the languages, is likely a credential: a password, token, API key, secret key."""
    return _secret_in_english(name) or _secret_abroad(name)


def _secret_in_english(name: str) -> bool:
    parts = words(name)
    if not parts or parts[-1] in _TELLS_ABOUT or parts[0] in _ASKS_ABOUT:
        return False
    if parts[-1] == "tokens" and _COUNTED_TOKENS & set(parts):
        return False
    if len(parts) == 1 and parts[0] in _SECRET_ALONE:
        return True
    return any(_SECRET_WORD.search(part) for part in parts) or any(map(_is_secret_pair, parts, parts[1:]))


def _secret_abroad(name: str) -> bool:
    parts = words(_plain(name))
    return bool(parts) and parts[-1] not in _TELLS_ABOUT and _SECRET_ABROAD.search(f"_{'_'.join(parts)}_") is not None


def secret_below(above: str, name: str) -> bool:
    """Return whether a member is a credential by the name it is under: `key` below `api`, `refresh` below `oauth`."""
    outer, inner = words(above), words(name)
    return bool(outer) and len(inner) == 1 and _is_secret_pair(outer[-1], inner[0])


def _is_secret_pair(first: str, second: str) -> bool:
    return (second in ("key", "keys") and first in _SECRET_KEYS) or (first, second) in _SECRET_PAIRS


VALUE_PATTERN = "|".join(
    [
        r"-----BEGIN [A-Z ]*PRIVATE KEY",
        r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b",
        r"\bgh[opsur]_[0-9A-Za-z]{36}",
        r"\bgithub_pat_[0-9A-Za-z_]{22}",
        r"\bglpat-[0-9A-Za-z_-]{20}",
        r"\bxox[abeoprs]-[0-9A-Za-z-]{10}",
        r"\bxapp-[0-9]-[0-9A-Za-z-]{10}",
        r"hooks\.slack\.com/services/[0-9A-Z]",
        r"\b[rs]k_(?:live|test)_[0-9A-Za-z]{10}",
        r"\bwhsec_[0-9A-Za-z+/]{16}",
        r"\bAIza[0-9A-Za-z_-]{35}",
        r"\bya29\.[0-9A-Za-z_-]{20}",
        r"\bGOCSPX-[0-9A-Za-z_-]{20}",
        r"\bsk-(?:proj|ant|svcacct|or)-[0-9A-Za-z_-]{20}",
        r"\bsk-[0-9A-Za-z]{32}",
        r"\bnpm_[0-9A-Za-z]{36}",
        r"\bpypi-AgE[0-9A-Za-z_-]{20}",
        r"\bSG\.[0-9A-Za-z_-]{16,32}\.[0-9A-Za-z_-]{16}",
        r"\bshp(?:at|ca|pa|ss)_[0-9a-fA-F]{32}",
        r"\bdop_v1_[0-9a-f]{64}",
        r"\bhv[bs]\.[0-9A-Za-z_-]{20}",
        r"AGE-SECRET-KEY-1[0-9A-Z]{20}",
        r"AccountKey=[0-9A-Za-z+/]{40}",
        r"\beyJ[0-9A-Za-z_-]{8,}\.eyJ[0-9A-Za-z_-]{8,}\.[0-9A-Za-z_-]{8}",
        r"\bBearer [0-9A-Za-z._~+/-]{20}",
        r"[?&#](?i:access_token|refresh_token|id_token|client_secret|api_?key|password)=[^&\s]{6}",
        r"\b(?i:x-api-key): ?[^\s]{8}",
        r"\b[a-zA-Z][a-zA-Z0-9+.-]*://[^/\s:@?#]*:[^/\s@?#]+@",
    ]
)
"""Unmistakable credentials, for Python's `re` and for RE2: keys of well-known services, private keys, JWTs, URLs with a password."""
_VALUE = re.compile(VALUE_PATTERN)


def secret_value(text: str) -> bool:
    """Return whether the text holds a credential of an unmistakable form."""
    return _VALUE.search(text) is not None
