# syntax=docker/dockerfile:1
# One image for web, worker and watcher; compose.yaml starts one of each.

FROM python:3.12-slim-bookworm AS build
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev pkg-config libvirt-dev libldap-dev libsasl2-dev && rm -rf /var/lib/apt/lists/*
WORKDIR /opt/labportal
RUN python -m venv .venv
COPY requirements requirements
RUN for lock in base libvirt ldap saml; do .venv/bin/pip install --no-cache-dir --require-hashes -r requirements/$lock.txt || exit 1; done
COPY . .
# The front end: packages by npm's lock file (Node itself comes from PyPI), then every static file under its hashed name.
# The settings given here are for this step alone; none of them ends up in the image.
RUN .venv/bin/python bin/assets && rm -rf .cache node_modules \
    && SECRET_KEY=build FIELD_KEYS=MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE= PORTAL_ID=00000000-0000-4000-8000-000000000000 \
       STATIC_ROOT=/opt/labportal/staticfiles .venv/bin/python manage.py collectstatic --noinput

FROM python:3.12-slim-bookworm
# The client libraries of libvirt and of directories; no compiler and no headers here.
RUN apt-get update && apt-get install -y --no-install-recommends libvirt0 libldap-2.5-0 libldap-common libsasl2-2 ca-certificates && rm -rf /var/lib/apt/lists/* \
    && useradd --system --create-home --home-dir /var/lib/labportal --shell /usr/sbin/nologin labportal
COPY --from=build /opt/labportal /opt/labportal
WORKDIR /opt/labportal
ENV PATH=/opt/labportal/.venv/bin:$PATH PYTHONUNBUFFERED=1 DATA_DIR=/var/lib/labportal STATIC_ROOT=/opt/labportal/staticfiles
USER labportal
EXPOSE 8000
CMD ["python", "manage.py", "web", "--host", "0.0.0.0", "--port", "8000"]
