"""Real guests for the tests: the golden image, and a libvirt daemon of the tests' own to run it on."""
