"""Settings of the directory for tests."""

from accounts.directory.config import DirectoryConfig, Groups
from accounts.directory.names import normalised
from tests import slapd as tree


def config_for(server, *uris, **changes) -> DirectoryConfig:
    """Search as the portal, then bind; students, teachers and staff by their groups."""
    given = {
        "uris": uris or (server.uri,),
        "user_bases": (tree.PEOPLE,),
        "start_tls": False,
        "bind_dn": tree.PORTAL_DN,
        "bind_password": tree.PORTAL_PASSWORD,
        "groups": Groups(bases=(tree.GROUPS,)),
        "role_groups": {
            "student": frozenset([normalised(tree.STUDENTS)]),
            "teacher": frozenset([normalised(tree.TEACHERS)]),
            "staff": frozenset([normalised(tree.STAFF)]),
        },
        "reserved_domains": frozenset(["uni.test"]),
    }
    return DirectoryConfig(**{**given, **changes})
