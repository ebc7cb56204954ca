"""Single sign-on: allauth's OpenID Connect and SAML, made stricter where they trust more than they need to.

A provider is known to the rest of the portal as the source "sso:<id>" of identities; allauth's own rows of
accounts, apps and tokens stay empty.
"""
