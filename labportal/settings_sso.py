"""Settings of single sign-on: OpenID Connect and SAML, where configured."""

APPS: list[str] = []  # of allauth's providers
