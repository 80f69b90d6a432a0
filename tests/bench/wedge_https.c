/* SPDX-License-Identifier: MIT */
/* dunelab: cpus=1 timeout=900 icount spread=10 slow=200 image=full */
/*
 * A request to httpsd (src/apps/httpsd), with the connection it comes by: a compartment for
 * each, against the same server natively with a process for each, a thread for each, and
 * threads that are there already, which keep nobody from anything.
 *
 * Client and server share the CPU; the client is native throughout.  So a figure is what
 * both do: a handshake, which is most of an HTTPS request, has two sides.
 */
#define _GNU_SOURCE
#include "../wedge.h"
#include "bench.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>

#include <openssl/err.h>
#include <openssl/pem.h>

#include <httpsd.h>

#define HTTP_BATCH	20
#define HTTPS_BATCH	4

static char cert[] = "/tmp/wedge_https.cert.XXXXXX", key[] = "/tmp/wedge_https.key.XXXXXX";

static void write_files(void)
{
	FILE *cert_file = fdopen(mkstemp(cert), "w"), *key_file = fdopen(mkstemp(key), "w");
	EVP_PKEY *pkey;
	X509 *x509;

	tls_throwaway(&pkey, &x509);
	if (!cert_file || !key_file || !PEM_write_X509(cert_file, x509) ||
	    !PEM_write_PrivateKey(key_file, pkey, NULL, NULL, 0, NULL, NULL) || fclose(cert_file) ||
	    fclose(key_file))
		ktap_bail("key and certificate: %s", strerror(errno));
	X509_free(x509);
	EVP_PKEY_free(pkey);
}

/* ---- the client ------------------------------------------------------------------------- */

struct client {
	unsigned short port;
	SSL_CTX *ctx;		/* NULL: HTTP */
};

static int connect_to(unsigned short port)
{
	struct sockaddr_in to = {
		.sin_family = AF_INET,
		.sin_port = htons(port),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;

	/* Else it sleeps until the server's acknowledgement of the handshake's end, 40 ms. */
	if (fd < 0 || setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)) ||
	    connect(fd, (struct sockaddr *)&to, sizeof(to)))
		ktap_bail("connect: %s", strerror(errno));
	return fd;
}

static void request(const struct client *c)
{
	static const char get[] = "GET / HTTP/1.0\r\n\r\n";
	SSL *ssl = c->ctx ? SSL_new(c->ctx) : NULL;
	int fd = connect_to(c->port);
	char answer[1024];
	size_t got = 0;
	ssize_t n;

	if (c->ctx && (!ssl || SSL_set_fd(ssl, fd) != 1 || SSL_connect(ssl) != 1))
		ktap_bail("no handshake: %s", ERR_reason_error_string(ERR_peek_error()));
	n = ssl ? SSL_write(ssl, get, sizeof(get) - 1) : write(fd, get, sizeof(get) - 1);
	while (n > 0 && got < sizeof(answer) - 1) {
		n = ssl ? SSL_read(ssl, answer + got, (int)(sizeof(answer) - 1 - got)) :
			  read(fd, answer + got, sizeof(answer) - 1 - got);
		got += n > 0 ? (size_t)n : 0;
	}
	answer[got] = 0;
	if (!strstr(answer, "\r\n\r\nIt works.\n"))
		ktap_bail("another answer: %s", answer);
	SSL_free(ssl);
	close(fd);
}

static void requests(unsigned int n, void *arg)
{
	for (unsigned int i = 0; i < n; i++)
		request(arg);
}

static struct bench measure(unsigned short port, bool http, unsigned int batch)
{
	struct client c = { .port = port };
	struct bench b;

	if (!http) {
		c.ctx = SSL_CTX_new(TLS_client_method());
		if (!c.ctx)
			ktap_bail("no TLS context");
	}
	bench_run(&b, requests, &c, batch);
	SSL_CTX_free(c.ctx);
	return b;
}

/* ---- the servers --------------------------------------------------------------------------- */

/* Ends with its parent. */
static pid_t child(void)
{
	pid_t pid = fork();

	if (pid < 0)
		ktap_bail("fork: %s", strerror(errno));
	if (!pid)
		prctl(PR_SET_PDEATHSIG, SIGKILL);
	return pid;
}

static void reap(pid_t pid, const char *what)
{
	int status = 0;

	if (waitpid(pid, &status, 0) != pid || status)
		ktap_bail("%s ended with status 0x%x", what, status);
}

static unsigned int batch_of(bool http)
{
	return http ? HTTP_BATCH : HTTPS_BATCH;
}

static struct options options_of(enum way way, bool http, unsigned short *port)
{
	struct options o = {
		.way = way, .http = http, .threads = 1, .cert = cert, .key = key,
		.connections = batch_of(http) * (BENCH_BATCHES + 1),
	};

	*port = 0;
	o.listener = listen_on(port);
	return o;
}

/* The server is a child, this process the client. */
static struct bench native(enum way way, bool http)
{
	unsigned short port;
	struct options o = options_of(way, http, &port);
	pid_t pid = child();
	struct bench b;

	if (!pid) {
		plain_serve(&o);
		_exit(0);
	}
	close(o.listener);
	b = measure(port, http, batch_of(http));
	reap(pid, "a native server");
	return b;
}

/* A client that is native has to be there before this process is not any more: it waits. */
struct waiting {
	bool http;
	struct options o;
	pid_t pid;
	int go;
	struct bench *told;	/* shared: what it measures */
};

static void start_client(struct waiting *w, bool http, struct bench *told)
{
	unsigned short port;
	int pair[2];
	char byte;

	w->http = http;
	w->told = told;
	w->o = options_of(COMPARTMENTS, http, &port);
	if (pipe(pair))
		ktap_bail("pipe: %s", strerror(errno));
	w->go = pair[1];
	w->pid = child();
	if (w->pid)
		return;
	close(w->o.listener);
	if (read(pair[0], &byte, 1) != 1)
		_exit(1);
	*told = measure(port, http, batch_of(http));
	_exit(0);
}

/* This process is the server, in Dune mode. */
static struct bench compartments(struct waiting *w)
{
	struct bench b;
	long exits;

	if (write(w->go, "", 1) != 1)
		ktap_bail("write: %s", strerror(errno));
	exits = compartments_serve(&w->o);
	reap(w->pid, "the client");
	b = *w->told;
	b.exits = exits * 100 / (long)w->o.connections;
	return b;
}

static const struct {
	enum way way;
	const char *name;
} ways[] = { { PLAIN_FORK, "fork" }, { PLAIN_THREAD, "thread" }, { PLAIN_POOL, "pool" } };
#define WAYS	3

int main(void)
{
	struct bench *told = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	struct bench plain[2][WAYS], in_dune[2];
	struct waiting clients[2];
	char name[40];

	ktap_plan(DUNE_TEST_ENTER + 3 + DUNE_TEST_LEAVE);
	bench_pin();
	signal(SIGPIPE, SIG_IGN);
	write_files();
	for (int http = 0; http < 2; http++)
		for (unsigned int i = 0; i < WAYS; i++)
			plain[http][i] = native(ways[i].way, http);
	for (int http = 0; http < 2; http++)
		start_client(&clients[http], http, &told[http]);
	dune_test_enter();
	/* TLS comes first: what OpenSSL knows at wedge_init() is what compartments have of it. */
	for (int http = 0; http < 2; http++)
		in_dune[http] = compartments(&clients[http]);
	unlink(cert);
	unlink(key);
	for (int http = 0; http < 2; http++) {
		for (unsigned int i = 0; i < WAYS; i++) {
			snprintf(name, sizeof(name), "httpsd_http%s_%s", http ? "" : "s", ways[i].name);
			bench_report(name, &plain[http][i]);
		}
		snprintf(name, sizeof(name), "httpsd_http%s_dune", http ? "" : "s");
		bench_report(name, &in_dune[http]);
	}
	ktap_ok(in_dune[1].median * 10 < plain[1][0].median * 8,
		"an HTTP request is a fifth cheaper than with a process for each connection");
	/* Half of the handshake is the client's. */
	ktap_ok(in_dune[0].median * 6 < plain[0][0].median * 5, "one by HTTPS a sixth");
	ktap_ok(in_dune[0].exits > 0 && in_dune[1].exits > 0, "and the server was in guest mode");
	return dune_test_done();
}
