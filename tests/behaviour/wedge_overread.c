/* SPDX-License-Identifier: MIT */
/* dunelab: cpus=2 timeout=120 */
/*
 * A server as Heartbleed found it: a worker for each connection answers with as many bytes as
 * the request says it has.  The workers are sthreads, the key is in a gate that only signs.  What
 * comes out is neither key nor what another connection sent; a read beyond all ends
 * the worker alone.
 */
#define _GNU_SOURCE
#include "../wedge.h"

#include <sys/socket.h>

#define CONNECTIONS	2
#define CLAIMED_MAX	60000U

enum { ECHO = 1, SIGN, LOGIN, QUIT };

struct request {
	unsigned int type, claimed;
	char payload[200];
};

/* Of one connection, in its tag. */
struct connection {
	int fd;
	struct wedge_gate *sign;
	struct request *request;
	char password[64];
	unsigned long digest, signature;
};

static struct wedge_tag *tags[CONNECTIONS];
static struct connection *conn[CONNECTIONS];
static struct sthread *worker[CONNECTIONS];
static int client[CONNECTIONS];
static const char *const password[CONNECTIONS] = { "alice's password", "bob's password" };

/* ---- in the compartments ------------------------------------------------------------ */

/* Some function of the key that does not tell it. */
static long sign(void *trusted, void *arg)
{
	const unsigned long *key = trusted;
	struct connection *c = arg;
	unsigned long z = c->digest;

	for (unsigned int i = 0; i < 8; i++)
		z = ((z ^ key[i]) * 0x9e3779b97f4a7c15UL) ^ z >> 29;
	c->signature = z;
	return 0;
}

static void *serve(void *arg)
{
	struct connection *c = arg;
	struct request *r = c->request;

	while (read(c->fd, r, sizeof(*r)) == sizeof(*r)) {
		char *reply;

		switch (r->type) {
		case ECHO:	/* the mistake: nobody asks whether it has sent that much */
			reply = malloc(r->claimed);
			memcpy(reply, r->payload, r->claimed);
			write(c->fd, reply, r->claimed);
			free(reply);
			break;
		case SIGN:
			memcpy(&c->digest, r->payload, sizeof(c->digest));
			if (!gate_call(c->sign, c))
				write(c->fd, &c->signature, sizeof(c->signature));
			break;
		case LOGIN:
			memcpy(c->password, r->payload, sizeof(c->password));
			write(c->fd, "ok", 2);
			break;
		default:
			return (void *)1;
		}
	}
	return NULL;
}

/* ---- the program and its clients -------------------------------------------------------- */

static void connect_to(unsigned int i, struct wedge_gate *gate)
{
	struct sthread_sc sc;
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair))
		ktap_bail("socketpair: %s", strerror(errno));
	client[i] = pair[0];
	conn[i]->fd = pair[1];
	conn[i]->sign = gate;
	sc_init(&sc);
	sc.flags = STHREAD_THREAD;
	wedge_must(sc_mem_add(&sc, tags[i], WEDGE_RW), "sc_mem_add");
	wedge_must(sc_fd_add(&sc, pair[1], WEDGE_RW), "sc_fd_add");
	wedge_must(sc_call_add(&sc, SYS_read), "sc_call_add");
	wedge_must(sc_call_add(&sc, SYS_write), "sc_call_add");
	wedge_must(sc_gate_add(&sc, gate), "sc_gate_add");
	wedge_must(sthread_create(&worker[i], &sc, serve, conn[i]), "sthread_create");
}

static void request(unsigned int i, unsigned int type, unsigned int claimed, const void *payload,
		    size_t len)
{
	struct request r = { .type = type, .claimed = claimed };

	memcpy(r.payload, payload, len);
	if (write(client[i], &r, sizeof(r)) != sizeof(r))
		ktap_bail("write: %s", strerror(errno));
}

/* Up to @len bytes; how many came. */
static size_t answer(unsigned int i, void *buf, size_t len)
{
	size_t got = 0;
	ssize_t n = 1;

	while (got < len && n > 0) {
		n = read(client[i], (char *)buf + got, len - got);
		got += n > 0 ? (size_t)n : 0;
	}
	return got;
}

static unsigned long signature(unsigned int i, unsigned long digest)
{
	unsigned long s = 0;

	request(i, SIGN, 0, &digest, sizeof(digest));
	answer(i, &s, sizeof(s));
	return s;
}

int main(void)
{
	static char loot[CLAIMED_MAX];
	struct wedge_tag *keys;
	struct wedge_gate *gate;
	struct sthread_result how;
	struct sthread_sc sc;
	unsigned long *key;
	char ok[2];

	ktap_plan(DUNE_TEST_ENTER + 11 + DUNE_TEST_LEAVE);
	dune_test_enter();
	wedge_must(wedge_init(), "wedge_init");
	for (unsigned int i = 0; i < CONNECTIONS; i++) {
		tags[i] = wedge_tag(1);
		conn[i] = smalloc(sizeof(*conn[i]), tags[i]);
		conn[i]->request = smalloc(sizeof(struct request), tags[i]);
	}
	keys = wedge_tag(1);
	key = smalloc(64, keys);
	memset(key, 'K', 64);
	sc_init(&sc);
	for (unsigned int i = 0; i < CONNECTIONS; i++)
		wedge_must(sc_mem_add(&sc, tags[i], WEDGE_RW), "sc_mem_add");
	wedge_must(sc_mem_add(&sc, keys, WEDGE_R), "sc_mem_add");
	wedge_must(gate_new(&gate, &sc, sign, key, GATE_RECYCLED), "gate_new");
	/* The first one's request is the last thing in its tag: behind it comes the neighbour's. */
	conn[0]->request = (void *)((char *)tag_base(tags[1]) - 4096);
	ktap_ok((char *)tag_base(tags[0]) + tag_size(tags[0]) == (char *)tag_base(tags[1]),
		"the neighbour's memory is next to the first one's");
	for (unsigned int i = 0; i < CONNECTIONS; i++)
		connect_to(i, gate);

	for (unsigned int i = 0; i < CONNECTIONS; i++) {
		request(i, LOGIN, 0, password[i], strlen(password[i]) + 1);
		answer(i, ok, 2);
	}
	ktap_ok(signature(0, 5) == signature(1, 5) && signature(0, 5) != signature(0, 6),
		"both have the server sign");
	request(1, ECHO, 5, "hello", 5);
	ktap_ok(answer(1, loot, 5) == 5 && !memcmp(loot, "hello", 5), "and echo what they sent");

	request(1, ECHO, CLAIMED_MAX, "x", 1);
	ktap_eq(answer(1, loot, CLAIMED_MAX), CLAIMED_MAX, "60,000 bytes for one");
	ktap_ok(!memmem(loot, sizeof(loot), "KKKKKKKK", 8), "without the key");
	ktap_ok(!memmem(loot, sizeof(loot), password[0], strlen(password[0])),
		"or the neighbour's password");
	ktap_ok(signature(1, 5) == signature(0, 5), "and it goes on");

	request(0, ECHO, CLAIMED_MAX, "x", 1);
	ktap_ok(sthread_join(worker[0], &how) == -EFAULT && how.end == STHREAD_FAULT &&
		how.addr >= (uintptr_t)tag_base(tags[1]) &&
		how.addr < (uintptr_t)tag_base(tags[1]) + tag_size(tags[1]),
		"a read into the neighbour's memory ends it");
	ktap_ok(recv(client[0], loot, sizeof(loot), MSG_DONTWAIT) < 0 && errno == EAGAIN,
		"and nothing came out");
	ktap_ok(signature(1, 5) != 0, "the other one goes on");
	request(1, QUIT, 0, "", 0);
	ktap_ok(!sthread_join(worker[1], &how) && how.value == 1, "to its end");
	return dune_test_done();
}
