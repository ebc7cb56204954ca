"""Starting the portal's processes, watching over them, and stopping them.

Standard library only: `bin/up` uses it before anything is installed.
"""
