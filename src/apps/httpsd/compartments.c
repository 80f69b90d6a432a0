// SPDX-License-Identifier: MIT
/*
 * A compartment for each connection.
 *
 * Each thread has a desk: a tag with what it hands to its compartments, and a gate that signs
 * what lies there.  A connection's own memory (buffers, session keys, OpenSSL's objects) is its
 * compartment's heap, which libwedge wipes behind it.  The key is in a tag that
 * only the gates have.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <openssl/bio.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>

#include <libdune/dune.h>
#include <wedge.h>

#include "httpsd.h"

#define KEY_MAX		8192

/* What a worker gets, in its desk's tag; it may write to all of it, to nobody's harm. */
struct task {
	int fd;
	bool vulnerable;
	SSL_CTX *ctx;
	struct wedge_gate *gate;
	size_t digest_len;
	unsigned int signature_len;
	unsigned char digest[DIGEST_MAX], signature[SIGNATURE_MAX];
};

/* What a gate gets, in the keys' tag: so no worker can say what is signed but on its desk. */
struct signer {
	struct task *task;
	const char *pem;
	size_t len;
};

struct desk {
	struct options *o;
	pthread_t thread;
	struct task *task;
	struct sthread_sc sc;		/* without the descriptor */
	long exits;
};

static void must(int ret, const char *what)
{
	if (!ret)
		return;
	fprintf(stderr, "httpsd: %s: %s\n", what, strerror(-ret));
	exit(1);
}

/* ---- in the compartments -------------------------------------------------------------------- */

/* Of each compartment its own, for as long as it is not wiped. */
static __thread EC_KEY *signing_key;
static __thread struct task *working_on;

/*
 * Each compartment begins with libcrypto's random generators as they were at wedge_init().
 * With the same state two of them would draw the same numbers.
 */
static bool other_random_numbers(void)
{
	return RAND_poll() == 1;
}

static EC_KEY *read_key(const struct signer *s)
{
	BIO *text = BIO_new_mem_buf(s->pem, (int)s->len);
	EVP_PKEY *pkey = text ? PEM_read_bio_PrivateKey(text, NULL, NULL, NULL) : NULL;

	return pkey && other_random_numbers() ? EVP_PKEY_get1_EC_KEY(pkey) : NULL;
}

/* The gate.  Its second argument is the worker's, and nothing is taken from there. */
static long sign(void *trusted, void *arg)
{
	const struct signer *s = trusted;
	struct task *t = s->task;
	unsigned char digest[DIGEST_MAX], signature[SIGNATURE_MAX];
	unsigned int signature_len = 0;
	size_t len = t->digest_len;

	(void)arg;
	if (!signing_key)
		signing_key = read_key(s);
	if (!signing_key || len > sizeof(digest) || ECDSA_size(signing_key) > SIGNATURE_MAX)
		return -EINVAL;
	memcpy(digest, t->digest, len);
	if (ECDSA_sign(0, digest, (int)len, signature, &signature_len, signing_key) != 1)
		return -EIO;
	memcpy(t->signature, signature, signature_len);
	t->signature_len = signature_len;
	return 0;
}

/* For libcrypto, in a worker. */
static int have_it_signed(int type, const unsigned char *digest, int len, unsigned char *signature,
			  unsigned int *signature_len, const BIGNUM *kinv, const BIGNUM *r,
			  EC_KEY *key)
{
	struct task *t = working_on;

	(void)type;
	(void)kinv;
	(void)r;
	(void)key;
	if (len < 0 || (size_t)len > sizeof(t->digest))
		return 0;
	memcpy(t->digest, digest, (size_t)len);
	t->digest_len = (size_t)len;
	if (gate_call(t->gate, NULL))
		return 0;
	memcpy(signature, t->signature, t->signature_len);
	*signature_len = t->signature_len;
	return 1;
}

static void *work(void *arg)
{
	struct task *t = arg;
	struct connection *c = calloc(1, sizeof(*c));

	if (!c || (t->ctx && !other_random_numbers()))
		return NULL;
	working_on = t;
	c->fd = t->fd;
	c->vulnerable = t->vulnerable;
	serve_connection(c, t->ctx);
	return NULL;
}

/* ---- outside ---------------------------------------------------------------------------------- */

/* The way from the file into the tag touches no other memory. */
static size_t load_key(const char *path, char *to)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, to, KEY_MAX);

	if (n < 0)
		must(-errno, path);
	if (n == 0 || n == KEY_MAX)
		must(-EFBIG, path);
	close(fd);
	return (size_t)n;
}

static struct wedge_gate *gate_for(struct task *task, struct wedge_tag *desk, const char *pem,
				   size_t len, struct wedge_tag *keys)
{
	struct signer *s = smalloc(sizeof(*s), keys);
	struct wedge_gate *gate;
	struct sthread_sc sc;

	if (!s)
		must(-ENOMEM, "smalloc");
	s->task = task;
	s->pem = pem;
	s->len = len;
	sc_init(&sc);
	must(sc_mem_add(&sc, keys, WEDGE_R), "sc_mem_add");
	must(sc_mem_add(&sc, desk, WEDGE_RW), "sc_mem_add");
	must(sc_call_add(&sc, SYS_getpid), "sc_call_add");	/* libcrypto: is this a fork? */
	must(gate_new(&gate, &sc, sign, s, GATE_KEPT), "gate_new");
	return gate;
}

static void prepare(struct desk *d, SSL_CTX *ctx, const char *pem, size_t len,
		    struct wedge_tag *keys)
{
	static const unsigned int calls[] = {
		SYS_read, SYS_write, SYS_getpid, SYS_clock_gettime, SYS_gettimeofday,
	};
	struct wedge_tag *tag;

	must(tag_new(1, &tag), "tag_new");
	d->task = smalloc(sizeof(*d->task), tag);
	if (!d->task)
		must(-ENOMEM, "smalloc");
	sc_init(&d->sc);
	must(sc_mem_add(&d->sc, tag, WEDGE_RW), "sc_mem_add");
	for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++)
		must(sc_call_add(&d->sc, calls[i]), "sc_call_add");
	d->task->vulnerable = d->o->vulnerable;
	d->task->ctx = ctx;
	if (ctx) {
		d->task->gate = gate_for(d->task, tag, pem, len, keys);
		must(sc_gate_add(&d->sc, d->task->gate), "sc_gate_add");
	}
}

static void serve_one(struct desk *d, int fd, const struct task *fresh)
{
	struct sthread_sc sc = d->sc;
	struct sthread_result how;
	struct sthread *s;
	char text[160];

	*d->task = *fresh;
	d->task->fd = fd;
	must(sc_fd_add(&sc, fd, WEDGE_RW), "sc_fd_add");
	must(sthread_create(&s, &sc, work, d->task), "sthread_create");
	if (sthread_join(s, &how)) {
		sthread_describe(&how, text, sizeof(text));
		fprintf(stderr, "httpsd: a worker was ended: it %s\n", text);
	}
	close(fd);
}

static long exits_so_far(void)
{
	const volatile struct dune_stats *stats = dune_vcpu_stats();
	long exits = 0;

	for (unsigned int i = 0; stats && i < DUNE_STAT_NR; i++)
		if (i != DUNE_STAT_INTERRUPT && i != DUNE_STAT_NMI)
			exits += (long)stats->exit[i].count;
	return exits;
}

static void *serve_all(void *arg)
{
	struct desk *d = arg;
	const struct task fresh = *d->task;
	int fd;

	d->exits = exits_so_far();
	while ((fd = next_connection(d->o)) >= 0)
		serve_one(d, fd, &fresh);
	d->exits = exits_so_far() - d->exits;
	return NULL;
}

long compartments_serve(struct options *o)
{
	struct desk *desks = calloc(o->threads, sizeof(*desks));
	struct wedge_tag *keys = NULL;
	SSL_CTX *ctx = NULL;
	char *pem = NULL;
	size_t len = 0;

	if (!desks)
		must(-ENOMEM, "threads");
	/* What all may know comes first, and the secret after wedge_init(). */
	if (!o->http) {
		tls_warm_up();
		ctx = tls_context_without_key(o, have_it_signed);
	}
	if (!dune_in_guest() && dune_init_and_enter()) {
		fprintf(stderr, "httpsd: no Dune mode here; --plain does without\n");
		exit(1);
	}
	must(wedge_init(), "wedge_init");
	if (ctx) {
		must(tag_new(1, &keys), "tag_new");
		pem = smalloc(KEY_MAX, keys);
		if (!pem)
			must(-ENOMEM, "smalloc");
		len = load_key(o->key, pem);
	}
	for (unsigned int i = 0; i < o->threads; i++) {
		desks[i].o = o;
		prepare(&desks[i], ctx, pem, len, keys);
	}
	for (unsigned int i = 1; i < o->threads; i++)
		must(-pthread_create(&desks[i].thread, NULL, serve_all, &desks[i]), "pthread_create");
	serve_all(&desks[0]);
	for (unsigned int i = 1; i < o->threads; i++)
		pthread_join(desks[i].thread, NULL);
	return desks[0].exits;
}
