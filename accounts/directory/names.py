"""Distinguished names, compared as a directory compares them."""

import re
import unicodedata

import ldap
from ldap.dn import dn2str, str2dn


def normalise(dn: str) -> str:
    """One spelling for all that mean the same name: case, blanks, escapes and the order within an RDN make no
    difference. Raises ValueError where it is no DN."""
    try:
        parts = str2dn(dn)
    except (ldap.DECODING_ERROR, UnicodeError) as error:
        raise ValueError(f"{dn!r} is no distinguished name") from error
    return str(dn2str([sorted((_plain(kind), _plain(value), 1) for kind, value, _flags in rdn) for rdn in parts]))


def is_under(dn: str, base: str) -> bool:
    """Whether `dn` is `base` or stands below it. Both are normalised."""
    return dn == base or not base or dn.endswith(f",{base}")


def _plain(text: str) -> str:
    return re.sub(r"\s+", " ", unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).lower())).strip()
