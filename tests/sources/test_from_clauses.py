"""Which tables a statement names, wherever one may stand."""

from __future__ import annotations

import pytest

from waybill.sources.dbapi.over_mysql import tables_named
from waybill.sources.definitions import behind

pytestmark = pytest.mark.fast

NAMED = {
    "select * from a": "a",
    "select * from a, b": "a b",
    "select * from a x, b as y, c.d z": "a b c.d",
    "select * from a\n,\nb": "a b",
    "select * from `a`.`b c`, `d``e`": "a.b c|d`e",
    'select * from "a" , b': "a b",
    "select * from a . b join C on a.x = c.x": "a.b c",
    "select * from a left outer join b using (x, y) natural join c": "a b c",
    "select straight_join x from a straight_join b on x = y": "a b",
    "select * from a join (b, c) on true": "a b c",
    "select * from (a, (b cross join c))": "a b c",
    "select * from ((a)), b": "a b",
    "select * from (select * from a, b) as x, c": "a b c",
    "select (select max(x) from a, b) from c": "a b c",
    "select * from a where x in (select y from b) and exists (select 1 from c, d)": "a b c d",
    "with x as (select * from a, b), y(z) as (select 1 from c) select * from x, y": "a b c x y",
    "with recursive x as (select 1 from a union all select 2 from x, b) select * from x": "a b x",
    "select 1 from a union select 2 from b, c": "a b c",
    "(select 1 from a) union all (select 2 from b, c) order by 1": "a b c",
    "select * from a use index (i, j), b partition (p, q)": "a b",
    "select * from a use index for order by (i), b force index for join (j), c ignore index for group by (k), d": "a b c d",
    "select * from a order by x, y": "a",
    "select f(x, y), z from a group by u, v having w limit 1, 2": "a",
    "select extract(year from b), trim(leading 'x' from c), substring(d from 2) from a": "a",
    "select 'from z, q', \"from\" from a": "a",
    "table a union all table b": "a b",
    "select * from (table a) x, b": "a b",
    "select * from oj, lateral": "oj lateral",
    "select 'it''s from b', 'a\\' from c' from a -- , d\n, e # , f\n, g /* , h */": "a e g",
    "select * from a /*! , b */ /*!50000 join c */ /*M!100100 , d */": "a b c d",
    "select 1--1 from a": "a",
    "select * from a, lateral (select * from b, c) x": "a b c",
    "select * from {oj a left join b on x = y}, c": "a b c",
    "select * from a join json_table(x, '$' columns (y int path '$')) as j, b": "a b json_table",
    "begin declare x int; select max(y) into x from a, b; return (select x from c); end": "a b c",
    "select 1": "",
}


@pytest.mark.parametrize("statement", NAMED)
def test_every_table_is_found_and_nothing_else(statement: str) -> None:
    names = NAMED[statement]
    wanted = {tuple(name.split(".")) for name in (names.split("|") if "|" in names else names.split())}
    assert tables_named(statement) == wanted
    assert tables_named(f"select * from ({statement}) as outermost") >= wanted


@pytest.mark.parametrize("named", ["paid", "PAID", "Paid"])
def test_views_whose_names_differ_only_in_their_letters_all_count(named: str) -> None:
    """A server on Linux keeps them apart. Which one a statement means is not looked into."""
    views = {"paid": "select * from a", "Paid": "select * from inner_view", "PAID": "select * from c", "inner_view": "select * from b"}
    assert behind(named, views) == views
