/* SPDX-License-Identifier: MIT */
/*
 * A web server whose connections cannot read each other's memory, and whose private key none
 * of them has: docs/wedge.md.
 *
 *	main.c		options
 *	listen.c	the socket, and who comes
 *	tls.c		what OpenSSL is told, and the key that is elsewhere
 *	connection.c	one connection; the same code in all ways of serving
 *	compartments.c	a compartment for each, a callgate that signs
 *	plain.c		the same server as an ordinary process
 */
#ifndef HTTPSD_H
#define HTTPSD_H

#include <stdbool.h>
#include <stddef.h>

#include <openssl/ec.h>
#include <openssl/ssl.h>

#define DIGEST_MAX	64
#define SIGNATURE_MAX	144	/* DER, ECDSA on a curve of 521 bits */
#define REQUEST_MAX	8192

enum way {
	COMPARTMENTS,
	PLAIN_FORK,		/* a process for each connection */
	PLAIN_THREAD,		/* a thread for each */
	PLAIN_POOL,		/* threads that are there already; nobody is kept from anything */
};

struct options {
	enum way way;
	bool http;			/* without TLS */
	bool vulnerable;		/* does what "Echo:" in a request asks for */
	unsigned int threads;		/* that serve at a time: COMPARTMENTS and PLAIN_POOL */
	unsigned long connections;	/* end after so many; 0: never */
	unsigned long taken;		/* so far */
	const char *cert, *key;		/* PEM files; the key is one of an elliptic curve */
	int listener;
};

/* A connection, as who serves it has it. */
struct connection {
	int fd;
	bool vulnerable;
	SSL *ssl;			/* NULL: HTTP */
	size_t got;
	char request[REQUEST_MAX];
};

/* tls.c */

/* A message of OpenSSL's on stderr, and the end. */
void tls_die(const char *what) __attribute__((noreturn));

/* A key and a certificate of it, for an hour. */
void tls_throwaway(EVP_PKEY **key, X509 **cert);

/**
 * tls_warm_up - a handshake in memory, with a key that is thrown away
 *
 * What OpenSSL looks up once, it has looked up then, and all that serve have it.
 */
void tls_warm_up(void);

/* With certificate and key of the options. */
SSL_CTX *tls_context(const struct options *o);

/* What libcrypto calls for a signature: EC_KEY_METHOD_set_sign(). */
typedef int (*sign_fn)(int type, const unsigned char *digest, int len, unsigned char *signature,
		       unsigned int *signature_len, const BIGNUM *kinv, const BIGNUM *r, EC_KEY *key);

/* The same as tls_context(), but with the public half alone: @sign has the other. */
SSL_CTX *tls_context_without_key(const struct options *o, sign_fn sign);

/* connection.c: from the handshake to the goodbye; the descriptor stays open. */
void serve_connection(struct connection *c, SSL_CTX *ctx);

/**
 * compartments_serve, plain_serve - accept and serve
 *
 * Both return after o->connections.
 * Return: exits of the guest meanwhile, of a server with one thread; -1: natively.
 */
long compartments_serve(struct options *o);
long plain_serve(struct options *o);

/* listen.c: on 127.0.0.1; *@port: 0 for one that is free, and which it became. */
int listen_on(unsigned short *port);
/* The next connection, with its time limits; -1: there were enough. */
int next_connection(struct options *o);

#endif /* HTTPSD_H */
