"""A real nginx in front of an application, at the root or below a path."""

import contextlib
from collections.abc import Iterator

from tests.servers.process import end, listening, program, scratch, spawn, wait_until_ready

CONFIG = """
daemon off;
master_process off;
pid {folder}/pid;
error_log {folder}/error.log;
events {{}}
http {{
  access_log off;
  gzip on;
  gzip_types *;
  gzip_proxied any;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  server {{
    listen 127.0.0.1:{port};
    location {prefix}/ {{
      proxy_pass http://127.0.0.1:{upstream}{kept};
      proxy_set_header Host $http_host;
      proxy_set_header X-Forwarded-Proto $scheme;
      proxy_set_header X-Forwarded-For 192.0.2.7;
    }}
  }}
}}
"""


@contextlib.contextmanager
def serve_nginx(port: int, upstream: int, prefix: str = "", *, strips: bool = True) -> Iterator[str]:
    """Yields the public address. With `strips` the application does not see the prefix, as with `proxy_pass http://...:8080/;`."""
    with scratch("nginx") as folder:
        kept = "/" if prefix and strips else ""
        config = folder / "nginx.conf"
        config.write_text(CONFIG.format(folder=folder, port=port, upstream=upstream, prefix=prefix, kept=kept))
        process = spawn([program("nginx"), "-c", str(config), "-p", str(folder), "-e", str(folder / "error.log")], log=folder / "log")
        try:
            wait_until_ready(process, lambda: listening(port), folder / "log")
            yield f"http://127.0.0.1:{port}{prefix}"
        finally:
            end(process)
