"""A small SAML identity provider: metadata, and answers whose assertions xmlsec signs. What `misbehave` names, it does wrong."""

import base64
import datetime
import html
import secrets
import threading
import zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import xmlsec
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID
from lxml import etree

ENTITY_ID = "https://idp.uni.test/idp/shibboleth"
PERSISTENT = "urn:oasis:names:tc:SAML:2.0:nameid-format:persistent"
TRANSIENT = "urn:oasis:names:tc:SAML:2.0:nameid-format:transient"
SUBJECT_ID = "urn:oasis:names:tc:SAML:attribute:subject-id"
GROUPS = "urn:oid:1.3.6.1.4.1.5923.1.1.1.1"
NS = {"saml": "urn:oasis:names:tc:SAML:2.0:assertion", "samlp": "urn:oasis:names:tc:SAML:2.0:protocol", "ds": "http://www.w3.org/2000/09/xmldsig#"}


def key_pair():
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "idp.uni.test")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now - datetime.timedelta(days=1), now + datetime.timedelta(days=1))
    ).sign(key, hashes.SHA256())
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return private, certificate.public_bytes(serialization.Encoding.PEM).decode()


class IdentityProvider:
    def __init__(self):
        self.key, self.certificate = key_pair()
        self.foreign_key, _ = key_pair()
        self.name_id, self.name_id_format = "persistent-1", PERSISTENT
        self.attributes = {
            "urn:oid:0.9.2342.19200300.100.1.1": ["grace"],
            "urn:oid:0.9.2342.19200300.100.1.3": ["grace@uni.test"],
            "urn:oid:2.5.4.42": ["Grace"],
            "urn:oid:2.5.4.4": ["Hopper"],
            GROUPS: ["member"],
        }
        self.misbehave = set()
        self.encrypt_for = ""  # the certificate of the portal
        self.asked = 0
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Page", (Page,), {"idp": self}))
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *what):
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def metadata(self):
        body = "".join(line for line in self.certificate.splitlines() if "-----" not in line)
        return (
            f'<md:EntityDescriptor xmlns:md="urn:oasis:names:tc:SAML:2.0:metadata" xmlns:ds="{NS["ds"]}" entityID="{ENTITY_ID}">'
            '<md:IDPSSODescriptor protocolSupportEnumeration="urn:oasis:names:tc:SAML:2.0:protocol">'
            f'<md:KeyDescriptor use="signing"><ds:KeyInfo><ds:X509Data><ds:X509Certificate>{body}</ds:X509Certificate></ds:X509Data></ds:KeyInfo>'
            "</md:KeyDescriptor>"
            f'<md:SingleSignOnService Binding="urn:oasis:names:tc:SAML:2.0:bindings:HTTP-Redirect" Location="{self.url}/sso"/>'
            "</md:IDPSSODescriptor></md:EntityDescriptor>"
        )

    def answer(self, url):
        """To the request in this address: where it is posted, and the fields."""
        packed = parse_qs(urlsplit(url).query)["SAMLRequest"][0]
        request = etree.fromstring(zlib.decompress(base64.b64decode(packed), -15))
        where = request.get("AssertionConsumerServiceURL")
        audience = request.find("saml:Issuer", NS).text
        response = self.response(request.get("ID"), where, audience)
        return where, {"SAMLResponse": base64.b64encode(etree.tostring(response)).decode(), "RelayState": ""}

    def response(self, request_id, where, audience):
        wrong = self.misbehave
        now = datetime.datetime.now(datetime.UTC) - datetime.timedelta(hours="expired" in wrong)
        instant, until, since = (f"{now + datetime.timedelta(minutes=minutes):%Y-%m-%dT%H:%M:%SZ}" for minutes in (0, 5, -5))
        audience = "https://another.test/metadata" if "wrong audience" in wrong else audience
        issuer = "https://another.test/idp" if "other issuer" in wrong else ENTITY_ID
        recipient = "https://another.test/acs" if "other recipient" in wrong else where
        answers = "" if "no request" in wrong else f'InResponseTo="{request_id}"'
        inside = "" if "no request in the assertion" in wrong else answers
        restriction = "" if "no audience" in wrong else f"<saml:AudienceRestriction><saml:Audience>{audience}</saml:Audience></saml:AudienceRestriction>"
        attributes = "".join(
            f'<saml:Attribute Name="{name}">{"".join(f"<saml:AttributeValue>{html.escape(value)}</saml:AttributeValue>" for value in values)}</saml:Attribute>'
            for name, values in self.attributes.items()
        )
        response = etree.fromstring(
            f'<samlp:Response xmlns:samlp="{NS["samlp"]}" xmlns:saml="{NS["saml"]}" ID="_{secrets.token_hex(16)}" Version="2.0" IssueInstant="{instant}" '
            f'Destination="{where}" {answers}><saml:Issuer>{issuer}</saml:Issuer>'
            '<samlp:Status><samlp:StatusCode Value="urn:oasis:names:tc:SAML:2.0:status:Success"/></samlp:Status>'
            f'<saml:Assertion ID="_{secrets.token_hex(16)}" Version="2.0" IssueInstant="{instant}"><saml:Issuer>{issuer}</saml:Issuer>'
            f'<saml:Subject><saml:NameID Format="{self.name_id_format}">{html.escape(self.name_id)}</saml:NameID>'
            '<saml:SubjectConfirmation Method="urn:oasis:names:tc:SAML:2.0:cm:bearer">'
            f'<saml:SubjectConfirmationData NotOnOrAfter="{until}" Recipient="{recipient}" {inside}/></saml:SubjectConfirmation></saml:Subject>'
            f'<saml:Conditions NotBefore="{since}" NotOnOrAfter="{until}">{restriction}</saml:Conditions>'
            f'<saml:AuthnStatement AuthnInstant="{instant}"><saml:AuthnContext>'
            "<saml:AuthnContextClassRef>urn:oasis:names:tc:SAML:2.0:ac:classes:Password</saml:AuthnContextClassRef></saml:AuthnContext></saml:AuthnStatement>"
            f"<saml:AttributeStatement>{attributes}</saml:AttributeStatement></saml:Assertion></samlp:Response>"
        )
        if "unsigned" not in wrong:
            self._sign(response.find("saml:Assertion", NS), self.foreign_key if "signed by another" in wrong else self.key)
        if "changed afterwards" in wrong:
            response.find(".//saml:NameID", NS).text = "somebody-else"
        for attack in wrong & set(WRAPPINGS):
            WRAPPINGS[attack](response)
        if self.encrypt_for:
            self._encrypt(response)
        return response

    def _sign(self, assertion, key):
        signature = xmlsec.template.create(assertion, xmlsec.Transform.EXCL_C14N, xmlsec.Transform.RSA_SHA256, ns="ds")
        assertion.insert(1, signature)  # behind the issuer, as the schema has it
        reference = xmlsec.template.add_reference(signature, xmlsec.Transform.SHA256, uri=f"#{assertion.get('ID')}")
        xmlsec.template.add_transform(reference, xmlsec.Transform.ENVELOPED)
        xmlsec.template.add_transform(reference, xmlsec.Transform.EXCL_C14N)
        xmlsec.tree.add_ids(assertion, ["ID"])
        context = xmlsec.SignatureContext()
        context.key = xmlsec.Key.from_memory(key, xmlsec.KeyFormat.PEM)
        context.sign(signature)

    def _encrypt(self, response):
        assertion = response.find("saml:Assertion", NS)
        template = xmlsec.template.encrypted_data_create(response, xmlsec.Transform.AES128, type=xmlsec.EncryptionType.ELEMENT, ns="xenc")
        xmlsec.template.encrypted_data_ensure_cipher_value(template)
        key_info = xmlsec.template.encrypted_data_ensure_key_info(template, ns="dsig")
        xmlsec.template.encrypted_data_ensure_cipher_value(xmlsec.template.add_encrypted_key(key_info, xmlsec.Transform.RSA_OAEP))
        manager = xmlsec.KeysManager()
        manager.add_key(xmlsec.Key.from_memory(self.encrypt_for, xmlsec.KeyFormat.CERT_PEM))
        context = xmlsec.EncryptionContext(manager)
        context.key = xmlsec.Key.generate(xmlsec.KeyData.AES, 128, xmlsec.KeyDataType.SESSION)
        encrypted = etree.Element(f"{{{NS['saml']}}}EncryptedAssertion")
        assertion.addprevious(encrypted)
        encrypted.append(assertion)
        context.encrypt_xml(template, assertion)


# -- signature wrapping: the signed assertion is there and good, and another one is to be believed --------


def _evil(response, *, keep_id=False):
    """A copy of the assertion, without its signature, of somebody else."""
    signed = response.find("saml:Assertion", NS)
    evil = etree.fromstring(etree.tostring(signed))
    evil.remove(evil.find("ds:Signature", NS))
    evil.find(".//saml:NameID", NS).text = "somebody-else"
    if not keep_id:
        evil.set("ID", "_evil")
    return signed, evil


def _beside(response):
    signed, evil = _evil(response)
    signed.addprevious(evil)


def _in_extensions(response):
    signed, evil = _evil(response)
    extensions = etree.Element(f"{{{NS['samlp']}}}Extensions")
    response.find("saml:Issuer", NS).addnext(extensions)
    signed.addprevious(evil)
    extensions.append(signed)


def _in_the_signature(response):
    signed, evil = _evil(response, keep_id=True)
    signature = signed.find("ds:Signature", NS)
    signed.addprevious(evil)
    signed.remove(signature)
    evil.insert(1, signature)
    etree.SubElement(signature, f"{{{NS['ds']}}}Object").append(signed)


def _around(response):
    signed, evil = _evil(response)
    signed.addprevious(evil)
    etree.SubElement(evil.find("saml:Conditions", NS), f"{{{NS['saml']}}}Wrapped").append(signed)


WRAPPINGS = {"another beside it": _beside, "hidden in extensions": _in_extensions, "hidden in its signature": _in_the_signature, "hidden in another": _around}


class Page(BaseHTTPRequestHandler):
    idp: IdentityProvider

    def log_message(self, *what):
        pass

    def do_GET(self):
        self.idp.asked += 1
        if self.path.startswith("/sso"):
            where, fields = self.idp.answer(self.path)
            inputs = "".join(f'<input type=hidden name="{name}" value="{html.escape(value)}">' for name, value in fields.items())
            kind, body = "text/html", f'<form method=post action="{where}">{inputs}<button>Sign in there</button></form>'
        else:
            kind, body = "application/xml", self.idp.metadata()
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body.encode())))
        self.end_headers()
        self.wfile.write(body.encode())
