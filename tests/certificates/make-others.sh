#!/bin/sh
# Makes the certificates that have something special about them, by an authority of their own, valid from 2020 to 2120 unless their name says
# otherwise. Nothing secret is among them. Run it in this folder.
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
copy_extensions = none
[any]
commonName = supplied
[req]
distinguished_name = name
[name]
CONFIG
key() { # name, kind
  case $2 in
    rsa*) openssl genrsa -out "$work/$1.key" "${2#rsa}" 2>/dev/null ;;
    *) openssl ecparam -name "$2" -genkey -noout | openssl pkcs8 -topk8 -nocrypt -out "$work/$1.key" ;;
  esac
}
sign() { # name, signer, common name, extensions, from, to
  printf '%s\n' "$4" > "$work/extensions"
  openssl req -new -config "$work/ca.cnf" -key "$work/$1.key" -subj "/CN=$3" -out "$work/request"
  extensions="-extfile $work/extensions"
  [ -n "$4" ] || extensions=""
  signer="-cert $work/$2.crt -keyfile $work/$2.key"
  [ "$1" != "$2" ] || signer="-selfsign -keyfile $work/$1.key"
  openssl ca -batch -notext -config "$work/ca.cnf" -in "$work/request" -out "$work/$1.crt" $signer $extensions \
    -startdate "${5:-20200101000000Z}" -enddate "${6:-21200101000000Z}" 2>/dev/null
}
authority="basicConstraints=critical,CA:TRUE
keyUsage=critical,keyCertSign"
server() { printf 'subjectAltName=%s\nbasicConstraints=critical,CA:FALSE\nextendedKeyUsage=serverAuth' "$1"; }
client() { printf 'subjectAltName=%s\nbasicConstraints=critical,CA:FALSE\nextendedKeyUsage=clientAuth' "$1"; }
put() { # name: certificate and key
  cp "$work/$1.crt" "$1.crt"
  cp "$work/$1.key" "$1.key"
  chmod 644 "$1.key"
}

key root prime256v1
sign root root root "$authority"
cp "$work/root.crt" root.crt
key intermediate prime256v1
sign intermediate root intermediate "$authority"
cp "$work/intermediate.crt" intermediate.crt
key leaf prime256v1
sign leaf intermediate leaf "$(server DNS:leaf.example)"
put leaf

key v1 prime256v1
sign v1 root v1.example ""
put v1
key common-name prime256v1
sign common-name root common-name.example "basicConstraints=critical,CA:FALSE"
put common-name
key p521 secp521r1
sign p521 root p521 "$(server DNS:p521.example)"
put p521
key rsa8192 rsa8192
sign rsa8192 root rsa8192 "$(server DNS:rsa8192.example)"
put rsa8192
key rsa1024 rsa1024
sign rsa1024 root rsa1024 "$(server DNS:rsa1024.example)"
put rsa1024
key secp256k1 secp256k1
sign secp256k1 root secp256k1 "$(server DNS:secp256k1.example)"
put secp256k1
key expired prime256v1
sign expired root expired "$(server DNS:expired.example)" 20200101000000Z 20210101000000Z
put expired
openssl pkcs8 -topk8 -in "$work/leaf.key" -passout pass:secret -out encrypted-pkcs8.key
openssl ec -in "$work/leaf.key" -aes128 -passout pass:secret -out encrypted-old.key 2>/dev/null

# Of clients, by two authorities.
for name in clients other-clients; do
  key $name prime256v1
  sign $name $name $name "$authority"
  cp "$work/$name.crt" "$name.crt"
done
key client prime256v1
sign client clients client "$(client DNS:client.example,URI:spiffe://example/client,email:client@client.example,IP:192.0.2.7)"
put client
key other-client prime256v1
sign other-client other-clients other-client "$(client DNS:client.example)"
put other-client
key expired-client prime256v1
sign expired-client clients expired-client "$(client DNS:client.example)" 20200101000000Z 20210101000000Z
put expired-client

# Signed by itself, so that it is its own authority.
key collector prime256v1
sign collector collector collector "$(server IP:127.0.0.1)"
put collector
