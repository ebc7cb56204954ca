"""What other apps may listen to."""

from django.dispatch import Signal

# The groups of a person were read from the directory or a single sign-on. `user`, and `groups`: the names of all of
# theirs, whichever system said so. Sent outside any transaction of the sign-in; a listener that fails keeps nobody out.
groups_read = Signal()
