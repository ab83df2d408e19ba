#!/bin/sh
# Runs once, when the volume is empty: a database and a user each for MLflow and for the store, so that neither reads the
# other's. PostgreSQL's own user comes in only from inside its container.
set -eu
for name in mlflow mlops; do
    case $name in
        mlflow) password=$MLFLOW_DB_PASSWORD ;;
        mlops) password=$STORE_DB_PASSWORD ;;
    esac
    psql --no-psqlrc --set ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname postgres \
        --set name="$name" --set password="$password" <<'SQL'
CREATE ROLE :"name" LOGIN PASSWORD :'password';
CREATE DATABASE :"name" OWNER :"name";
REVOKE ALL ON DATABASE :"name" FROM PUBLIC;
SQL
done
