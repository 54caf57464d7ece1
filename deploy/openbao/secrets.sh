#!/bin/sh
# Make what the three OpenBao servers of docker-compose.yml start with, and every login to them, below the folder $1:
# whoever uses a file finds it in a folder of its own. A second run leaves everything as it is.
set -eu
umask 077
cd "$1"
servers="vault-1 vault-2 provider-vault"

authority() { # whose key signs these certificates and is forgotten
  cat >"$work/conf" <<-'CONF'
	[req]
	distinguished_name = name
	[name]
	[authority]
	basicConstraints = critical, CA:TRUE
	keyUsage = critical, keyCertSign
	subjectKeyIdentifier = hash
	CONF
  openssl ecparam -name prime256v1 -genkey -noout -out "$work/key"
  openssl req -config "$work/conf" -extensions authority -x509 -new -key "$work/key" -days 3650 \
    -subj "/CN=the vaults of docker-compose.yml" -out "$work/vaults.pem"
}

certificate() { # SERVER
  cat >"$work/server" <<-CONF
	subjectAltName = DNS:$1, IP:127.0.0.1
	extendedKeyUsage = serverAuth
	authorityKeyIdentifier = keyid
	CONF
  openssl ecparam -name prime256v1 -genkey -noout -out "$1/server.key"
  openssl req -config "$work/conf" -new -key "$1/server.key" -subj "/CN=$1" -out "$work/request"
  openssl x509 -req -in "$work/request" -CA "$work/vaults.pem" -CAkey "$work/key" -CAcreateserial -days 3650 \
    -extfile "$work/server" -out "$1/server.pem" 2>/dev/null
  cp "$work/vaults.pem" "$1/"
}

login() { # SERVER LOGIN
  printf %s "$(openssl rand -hex 24)" >"$1/$2"
  cp "$1/$2" "$2/$1"
  cp "$work/vaults.pem" "$2/"
}

# shellcheck disable=SC2086 # a list of words
if [ ! -e vault-1/ready ]; then
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
  mkdir -p $servers customer tik_cache_refresher recovery_handler
  authority
  for server in $servers; do
    certificate "$server"
    openssl rand -out "$server/unseal.key" 32
    mkdir -p "$server/data"
    login "$server" tik_cache_refresher
    login "$server" recovery_handler
  done
  for server in vault-1 vault-2; do
    login "$server" customer
    printf '[servers."%s:8200"]\nrole_id = "customer"\nsecret_id_file = "%s"\nca_file = "vaults.pem"\n' "$server" "$server"
  done >customer/vaults.toml
fi
for server in $servers; do
  : >"$server/ready" # each waits for its own, and none has started before all is there
done
