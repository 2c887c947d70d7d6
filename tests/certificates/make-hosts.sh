#!/bin/sh
# Makes the certificates of hosts that are spoken to in TLS, by an authority of their own, valid from 2020 to 2120. Nothing secret is among
# them. Run it in this folder.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
touch "$work/index"
cat > "$work/ca.cnf" <<CONFIG
[ca]
default_ca = test
[test]
database = $work/index
new_certs_dir = $work
rand_serial = yes
default_md = sha256
policy = any
unique_subject = no
[any]
commonName = supplied
[req]
distinguished_name = name
[name]
CONFIG
sign() { # name, extensions, further arguments of openssl ca
  name=$1
  openssl ecparam -name prime256v1 -genkey -noout | openssl pkcs8 -topk8 -nocrypt -out "$work/$name.key"
  printf '%s\n' "$2" > "$work/extensions"
  openssl req -new -config "$work/ca.cnf" -key "$work/$name.key" -subj "/CN=$name" -out "$work/request"
  shift 2
  openssl ca -batch -notext -config "$work/ca.cnf" -in "$work/request" -out "$name.crt" -keyfile "$work/hosts.key" \
    -extfile "$work/extensions" -startdate 20200101000000Z -enddate 21200101000000Z "$@" 2>/dev/null
}
sign hosts "basicConstraints=critical,CA:TRUE
keyUsage=critical,keyCertSign" -selfsign
sign host "subjectAltName=DNS:host.example,DNS:*.wild.example,URI:spiffe://example/host
basicConstraints=critical,CA:FALSE
extendedKeyUsage=serverAuth" -cert hosts.crt
install -m 644 "$work/host.key" host.key
