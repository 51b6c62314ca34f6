"""Which names a certificate authority may sign: the Globus file `<hash>.signing_policy`.

    access_id_CA   X509    '/C=XX/O=Org/CN=CA'
    pos_rights     globus  CA:sign
    cond_subjects  globus  '"/C=XX/O=Org/*" "/C=XX/O=Other/*"'

In a condition only `*` is special. Globus looks at the last star alone and ignores what follows it; here every star
counts, and what follows it must match.
"""

import re
from collections.abc import Mapping

from gateway.auth.certificates import escaped

SigningPolicy = Mapping[str, tuple[re.Pattern[str], ...]]

WORD = re.compile(r"""\s*(?:'([^']*)'|"([^"]*)"|([^\s'"#][^\s'"]*)|(\#.*))""")
OLD_NAMES = (("/Email=", "/emailAddress="), ("/E=", "/emailAddress="), ("/USERID=", "/UID="))


class SigningPolicyError(ValueError):
    """The file cannot be understood; the message tells the line."""


def may_sign(policy: SigningPolicy, authority: str, subject: str) -> bool:
    """Whether the policy lets the authority of that name (both in slash form) sign for the subject."""
    return any(pattern.fullmatch(normal(subject)) for pattern in policy.get(normal(authority), ()))


def parse_signing_policy(text: bytes) -> SigningPolicy:
    """Patterns of subjects by authority. An authority that may sign nothing is not in it."""
    policy: dict[str, tuple[re.Pattern[str], ...]] = {}
    authorities: list[str] = []
    rights: str | None = None
    for number, line in enumerate(text.splitlines(), 1):
        match split(line, number):
            case []:
                continue
            case ["access_id_ca", "x509", authority]:
                authorities = [*authorities, normal(authority)] if rights is None else [normal(authority)]
                rights = None
            case ["pos_rights", "globus", right] if authorities:
                rights = right.lower()
            case ["cond_subjects", "globus", *conditions] if rights and conditions:
                for authority in authorities if rights == "ca:sign" else []:
                    policy[authority] = policy.get(authority, ()) + patterns(conditions)
            case _:
                raise SigningPolicyError(f"line {number}: not understood, or not in its place")
    return policy


def split(line: bytes, number: int) -> list[str]:
    """Words of a line, unquoted, the first two in lower case, a comment dropped."""
    rest, words = escaped(line.replace(b"\t", b" ")).strip(), []
    while rest:
        word = WORD.match(rest)
        if word is None:
            raise SigningPolicyError(f"line {number}: a quote is not closed")
        if word[4] is None:
            words.append(next(group for group in word.groups() if group is not None))
        rest = rest[word.end() :]
    return [word.lower() for word in words[:2]] + words[2:]


def patterns(conditions: list[str]) -> tuple[re.Pattern[str], ...]:
    subjects = [
        subject for text in conditions for subject in (re.findall('"([^"]*)"', text) if '"' in text else [text])
    ]
    return tuple(
        re.compile(".*".join(re.escape(part) for part in re.split(r"\*+", normal(subject.strip()))))
        for subject in subjects
    )


def normal(name: str) -> str:
    """Other spellings of the same attribute, which old policy files have, in OpenSSL's spelling."""
    for old, new in OLD_NAMES:
        name = name.replace(old, new)
    return name
