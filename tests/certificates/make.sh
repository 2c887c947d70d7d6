#!/bin/sh
# Makes the certificates that tests use, valid from 2020 to 2120. Nothing secret is among them.
# Run it in this folder; goldens that contain them must be edited by hand afterwards.
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
  printf '%s\n' "$2" > "$work/extensions"
  openssl req -new -config "$work/ca.cnf" -key "$1.key" -subj "/CN=$1" -out "$work/request"
  name=$1
  shift 2
  openssl ca -batch -notext -config "$work/ca.cnf" -in "$work/request" -out "$name.crt" -keyfile ca.key -extfile "$work/extensions" \
    -startdate 20200101000000Z -enddate 21200101000000Z "$@" 2>/dev/null
}
key() { # name, kind
  case $2 in
    pkcs8) openssl ecparam -name prime256v1 -genkey -noout | openssl pkcs8 -topk8 -nocrypt -out "$1.key" ;;
    sec1) openssl ecparam -name prime256v1 -genkey -noout -out "$1.key" ;;
    pkcs1) openssl genrsa -traditional -out "$1.key" 2048 2>/dev/null ;;
  esac
  chmod 644 "$1.key"
}
leaf() { # name, kind of key, subject alternative names
  key "$1" "$2"
  sign "$1" "subjectAltName=$3
basicConstraints=critical,CA:FALSE
extendedKeyUsage=serverAuth" -cert ca.crt
}
key ca pkcs8
sign ca "basicConstraints=critical,CA:TRUE
keyUsage=critical,keyCertSign" -selfsign
leaf a pkcs8 DNS:a.example
leaf a-next pkcs8 DNS:a.example
leaf a-rsa pkcs1 DNS:a.example
leaf b sec1 DNS:b.example
leaf wild pkcs8 "DNS:*.wild.example"
leaf all pkcs8 "DNS:a.example,DNS:b.example,DNS:c.example,DNS:*.wild.example,DNS:fallback.example"
rm ca.key
