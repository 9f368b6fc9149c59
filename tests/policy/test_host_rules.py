"""What is said of single hosts, and how it is read."""

from __future__ import annotations

import pytest

from async_img2ds.errors import OptionsError
from async_img2ds.policy.host_rules import NO_RULES, HostRule, HostRules

RULES = """
["example.org"]
max_per_host = 4
max_rate_per_host = 2.5
headers = { Referer = "https://example.org/" }

["slow.example.org"]
crawl_delay = 3

["BÜCHER.example"]
crawl_delay = 0.5

["127.0.0.1"]
max_per_host = 1

["2001:DB8:0:0::1"]
max_per_host = 2

["straße.de"]
max_per_host = 3
"""


def test_longest_name_that_fits_counts() -> None:
    """A rule holds for its name and all below it, unless one of these has a rule of its own."""
    rules = HostRules.parse(RULES)

    assert rules.of("example.org") == HostRule(4, 2.5, None, {"Referer": "https://example.org/"})
    assert rules.of("a.b.example.org") == rules.of("example.org") == rules.of("example.org.")
    assert rules.of("a.slow.example.org") == HostRule(crawl_delay=3)
    assert rules.of("xn--bcher-kva.example") == HostRule(crawl_delay=0.5)
    assert rules.of("127.0.0.1") == HostRule(1)
    assert rules.of("2001:db8::1") == HostRule(2)
    assert rules.of("xn--strae-oqa.de") == HostRule(3)
    assert rules.of("strasse.de") == HostRule()
    assert rules.of("badexample.org") == rules.of("org") == rules.of("") == HostRule()
    assert NO_RULES.of("example.org") == HostRule()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("nonsense", "not TOML"),
        ("a = 1", "'a' is no table"),
        ('["a.org"]\nmax = 1', "a.org has 'max'; there are crawl_delay, headers, max_per_host, max_rate_per_host"),
        (
            '["a.org"]\nmax_per_host = 1.5',
            "max_per_host of a.org takes a whole number of at least 1 and at most 1e+06; got 1.5",
        ),
        ('["a.org"]\nmax_per_host = true', "takes a whole number"),
        ('["a.org"]\nrefuse = "yes"', "refuse of a.org takes true or false; got 'yes'"),
        ('["a.org"]\ncrawl_delay = -1', "takes a number of at least 0 and at most 86400; got -1"),
        ("[a.org]\ncrawl_delay = 1", 'a name with a dot is written in quotes: ["a.org"]'),
        ('["a.org"]\ncrawl_delay = 1e300', "at most 86400; got 1e+300"),
        ('["a.org"]\ncrawl_delay = inf', "takes a number of at least 0 and at most 86400; got inf"),
        ('["a.org"]\nheaders = 1', "headers of a.org must be a table"),
        ('["a.org"]\nheaders = { Host = "b" }', "Host is for the program itself"),
        ('["a.org"]\nheaders = { A = "b\\nc" }', "not one line"),
        ('["http://a.org/"]\ncrawl_delay = 1', "is no host name"),
        ('["a.org:80"]\ncrawl_delay = 1', "is no host name"),
        ('["a.org"]\ncrawl_delay = 1\n["A.org."]\ncrawl_delay = 2', "a.org has two tables"),
    ],
)
def test_what_there_is_no_rule_for_is_refused(text: str, said: str) -> None:
    """In words that say what there is."""
    with pytest.raises(OptionsError) as caught:
        HostRules.parse(text)

    assert said in str(caught.value)
