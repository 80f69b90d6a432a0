// SPDX-License-Identifier: MIT
/* What OpenSSL is told. */
#include <stdio.h>
#include <stdlib.h>

#include <openssl/err.h>
#include <openssl/x509.h>

#include "httpsd.h"

void tls_die(const char *what)
{
	fprintf(stderr, "httpsd: %s\n", what);
	ERR_print_errors_fp(stderr);
	exit(1);
}

/*
 * Neither tickets nor a cache: the tickets' key and the sessions would be secrets that all
 * connections share.
 */
static SSL_CTX *new_context(void)
{
	SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());

	if (!ctx)
		tls_die("no TLS context");
	SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
	SSL_CTX_set_options(ctx, SSL_OP_NO_TICKET | SSL_OP_NO_RENEGOTIATION);
	SSL_CTX_set_num_tickets(ctx, 0);
	SSL_CTX_set_read_ahead(ctx, 1);	/* one read() for a record, not two */
	return ctx;
}

SSL_CTX *tls_context(const struct options *o)
{
	SSL_CTX *ctx = new_context();

	if (SSL_CTX_use_certificate_chain_file(ctx, o->cert) != 1)
		tls_die(o->cert);
	if (SSL_CTX_use_PrivateKey_file(ctx, o->key, SSL_FILETYPE_PEM) != 1)
		tls_die(o->key);
	return ctx;
}

/*
 * An EC_KEY with the public half alone.  This method of libcrypto's is about digests, so who
 * makes signatures elsewhere sees what it signs; RSA's is below the padding, where a
 * signature and a decryption are the same.
 */
SSL_CTX *tls_context_without_key(const struct options *o, sign_fn sign)
{
	SSL_CTX *ctx = new_context();
	EC_KEY_METHOD *method = EC_KEY_METHOD_new(EC_KEY_OpenSSL());
	EVP_PKEY *pkey = EVP_PKEY_new();
	EC_KEY *key;

	if (SSL_CTX_use_certificate_chain_file(ctx, o->cert) != 1)
		tls_die(o->cert);
	key = EVP_PKEY_get1_EC_KEY(X509_get0_pubkey(SSL_CTX_get0_certificate(ctx)));
	if (!key)
		tls_die("the certificate is not about a key of an elliptic curve");
	if (!method || !pkey)
		tls_die("no memory for a key");
	EC_KEY_METHOD_set_sign(method, sign, NULL, NULL);
	if (EC_KEY_set_method(key, method) != 1 || EVP_PKEY_assign_EC_KEY(pkey, key) != 1 ||
	    SSL_CTX_use_PrivateKey(ctx, pkey) != 1)
		tls_die("OpenSSL does not take a key whose signatures are made elsewhere");
	EVP_PKEY_free(pkey);
	return ctx;
}

/* ---- warming up ------------------------------------------------------------------------------ */

void tls_throwaway(EVP_PKEY **key, X509 **cert)
{
	X509 *c = X509_new();
	X509_NAME *name = c ? X509_get_subject_name(c) : NULL;

	*key = EVP_EC_gen("P-256");
	*cert = c;
	if (!*key || !name || !X509_set_version(c, X509_VERSION_3) ||
	    !X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)"httpsd", -1,
					-1, 0) ||
	    !X509_set_issuer_name(c, name) || !X509_gmtime_adj(X509_getm_notBefore(c), 0) ||
	    !X509_gmtime_adj(X509_getm_notAfter(c), 3600) || !X509_set_pubkey(c, *key) ||
	    !X509_sign(c, *key, EVP_sha256()))
		tls_die("no key to throw away");
}

/* One after the other, until both have what they want. */
static void handshake(SSL *server, SSL *client)
{
	char byte = 0;

	for (int turn = 0; turn < 8; turn++) {
		SSL_do_handshake(client);
		SSL_do_handshake(server);
	}
	if (SSL_write(client, "x", 1) != 1 || SSL_read(server, &byte, 1) != 1 ||
	    SSL_write(server, &byte, 1) != 1 || SSL_read(client, &byte, 1) != 1 || byte != 'x')
		tls_die("a handshake in memory failed");
}

void tls_warm_up(void)
{
	EVP_PKEY *key;
	X509 *cert;
	SSL_CTX *for_server = new_context(), *for_client = SSL_CTX_new(TLS_client_method());
	BIO *one, *other;
	SSL *server, *client;

	tls_throwaway(&key, &cert);
	if (!for_client || SSL_CTX_use_certificate(for_server, cert) != 1 ||
	    SSL_CTX_use_PrivateKey(for_server, key) != 1 || !BIO_new_bio_pair(&one, 0, &other, 0))
		tls_die("nothing to warm up with");
	server = SSL_new(for_server);
	client = SSL_new(for_client);
	if (!server || !client)
		tls_die("no memory to warm up");
	SSL_set_bio(server, one, one);
	SSL_set_bio(client, other, other);
	SSL_set_accept_state(server);
	SSL_set_connect_state(client);
	handshake(server, client);
	SSL_free(client);
	SSL_free(server);
	SSL_CTX_free(for_client);
	SSL_CTX_free(for_server);
	X509_free(cert);
	EVP_PKEY_free(key);
}
