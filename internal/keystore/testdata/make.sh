#!/bin/sh -e
# Makes the stores of this folder in the current one, with keytool (of Java 17 or later) and openssl (3). Their password is changeit.
# java List.java FOLDER, beside this file, prints how Java names what is in them.
export LC_ALL=C.UTF-8
keytool() { command keytool -storepass changeit -noprompt "$@" 2>/dev/null; }
key() { keytool -genkeypair -keyalg EC -groupname secp256r1 -validity 36500 "$@"; }
# like FILE OPTION... writes the keys and the trusted certificate anew.
like() { file=$1; shift; keytool -importkeystore -srckeystore keytool.p12 -srcstorepass changeit -deststorepass changeit -destkeystore "$file" "$@"; }
sealed() { like "$1" "-J-Dkeystore.pkcs12.certProtectionAlgorithm=$2" "-J-Dkeystore.pkcs12.keyProtectionAlgorithm=$2"; }

# Two keys, the second one with its issuer, and a trusted certificate.
key -keystore keytool.p12 -alias First -dname CN=first.example -ext san=dns:first.example
key -keystore authority.p12 -alias authority -dname CN=authority -ext bc:c
keytool -exportcert -rfc -keystore authority.p12 -alias authority >authority.pem
key -keystore keytool.p12 -alias second -dname CN=second.example -ext san=dns:second.example
keytool -certreq -keystore keytool.p12 -alias second |
	keytool -gencert -rfc -keystore authority.p12 -alias authority -validity 36500 -ext san=dns:second.example >second.pem
cat second.pem authority.pem >chain.pem
keytool -importcert -keystore keytool.p12 -alias second -file chain.pem
keytool -importcert -keystore keytool.p12 -alias Autorität -file authority.pem

like keytool-legacy.p12 -J-Dkeystore.pkcs12.legacy
sealed keytool-md5-des.p12 PBEWithMD5AndDES
sealed keytool-sha1-3des.p12 PBEWithSHA1AndDESede
sealed keytool-sha1-rc2-128.p12 PBEWithSHA1AndRC2_128
sealed keytool-sha1-rc4-40.p12 PBEWithSHA1AndRC4_40
sealed keytool-sha1-rc4-128.p12 PBEWithSHA1AndRC4_128
sealed keytool-hmac1-aes-128.p12 PBEWithHmacSHA1AndAES_128
sealed keytool-hmac224-aes-128.p12 PBEWithHmacSHA224AndAES_128
sealed keytool-hmac384-aes-256.p12 PBEWithHmacSHA384AndAES_256
sealed keytool-hmac512-aes-256.p12 PBEWithHmacSHA512AndAES_256
like keytool-mac224.p12 -J-Dkeystore.pkcs12.macAlgorithm=HmacPBESHA224
like keytool-mac384.p12 -J-Dkeystore.pkcs12.macAlgorithm=HmacPBESHA384
like keytool-mac512.p12 -J-Dkeystore.pkcs12.macAlgorithm=HmacPBESHA512
like keytool-mac512-224.p12 -J-Dkeystore.pkcs12.macAlgorithm=HmacPBESHA512/224
like keytool-mac512-256.p12 -J-Dkeystore.pkcs12.macAlgorithm=HmacPBESHA512/256
like keytool-plain.p12 -J-Dkeystore.pkcs12.certProtectionAlgorithm=NONE -J-Dkeystore.pkcs12.macAlgorithm=NONE

# The same in the formats of old, and with a password for each key.
like keytool.jks -deststoretype jks
like keytool.jceks -deststoretype jceks
like keytool-own-passwords.jks -deststoretype jks
keytool -keypasswd -keystore keytool-own-passwords.jks -alias first -keypass changeit -new other-word

# A key and its issuer.
openssl pkcs12 -in keytool.p12 -passin pass:changeit -nodes -out all.pem
awk '/BEGIN PRIVATE KEY/ {n++} n == 2 {print} /END PRIVATE KEY/ && n == 2 {exit}' all.pem >second.key
export_() { file=$1; shift; openssl pkcs12 -export -inkey second.key -in second.pem -certfile authority.pem -passout pass:changeit -out "$file" "$@"; }
export_ openssl.p12 -name Zweiter -caname Ключ
export_ openssl-legacy.p12 -legacy -name second -caname authority
export_ openssl-descert.p12 -legacy -descert -name second -caname authority
export_ openssl-sha1-2des.p12 -legacy -keypbe PBE-SHA1-2DES -certpbe PBE-SHA1-2DES -name second -caname authority
export_ openssl-sha1-des.p12 -legacy -keypbe PBE-SHA1-DES -certpbe PBE-SHA1-DES -name second -caname authority
export_ openssl-3des-aes-192.p12 -keypbe des-ede3-cbc -certpbe aes-192-cbc -macalg sha384 -name second -caname authority
export_ openssl-nomac.p12 -nomac -certpbe aes-256-cbc -name second -caname authority
export_ openssl-plain.p12 -keypbe NONE -certpbe NONE -nomac -name second -caname authority
export_ openssl-unnamed.p12
openssl pkcs12 -export -nokeys -in chain.pem -caname second -caname authority -passout pass:changeit -out openssl-certificates.p12
openssl pkcs12 -export -inkey second.key -in second.pem -name second -passout pass: -out openssl-no-password.p12
rm authority.p12 ./*.pem second.key
