#!/bin/sh
# Makes one role and one database for ExplainS2A and one for Prefect; PostgreSQL's image runs it once, on an empty volume.
set -eu

make() {
    psql --set=ON_ERROR_STOP=1 --set=name="$1" --set=password="$(cat "${SECRETS:-/run/secrets}/$1_password")" \
        --username="${POSTGRES_USER:-postgres}" --dbname=postgres <<'SQL'
CREATE ROLE :"name" LOGIN PASSWORD :'password';
CREATE DATABASE :"name" OWNER :"name";
REVOKE ALL ON DATABASE :"name" FROM PUBLIC;
SQL
}

make explains2a
make prefect
