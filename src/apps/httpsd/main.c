// SPDX-License-Identifier: MIT
/* Options, and the socket. */
#include <errno.h>
#include <getopt.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "httpsd.h"

static const char help[] =
	"usage: httpsd [OPTIONS] --cert FILE --key FILE\n"
	"       httpsd [OPTIONS] --http\n"
	"Serve one page on 127.0.0.1, each connection in a compartment of its own; the private\n"
	"key is in another one, that signs.\n"
	"\n"
	"  --cert FILE, --key FILE   PEM; the key is one of an elliptic curve\n"
	"  --http                    without TLS\n"
	"  --port PORT               default: one that is free\n"
	"  --threads N               so many connections at a time (default: 4)\n"
	"  --connections N           end after so many\n"
	"  --plain fork|thread|pool  an ordinary process, with a process or a thread for each\n"
	"                            connection, or with threads that are there already\n"
	"  --vulnerable              \"Echo: LENGTH OFFSET\" in a request is answered with memory\n";

static void bad(const char *what)
{
	fprintf(stderr, "httpsd: %s\n%s", what, help);
	exit(2);
}

static unsigned long number(const char *text, unsigned long max)
{
	char *end;
	unsigned long n = strtoul(text, &end, 10);

	if (!*text || *end || *text == '-' || n > max)
		bad(text);
	return n;
}

static enum way way_of(const char *text)
{
	if (!strcmp(text, "fork"))
		return PLAIN_FORK;
	if (!strcmp(text, "thread"))
		return PLAIN_THREAD;
	if (!strcmp(text, "pool"))
		return PLAIN_POOL;
	bad(text);
	return COMPARTMENTS;
}

static void parse(struct options *o, unsigned short *port, int argc, char **argv)
{
	static const struct option words[] = {
		{ "cert", required_argument, NULL, 'c' },
		{ "connections", required_argument, NULL, 'n' },
		{ "help", no_argument, NULL, 'h' },
		{ "http", no_argument, NULL, 'H' },
		{ "key", required_argument, NULL, 'k' },
		{ "plain", required_argument, NULL, 'w' },
		{ "port", required_argument, NULL, 'p' },
		{ "threads", required_argument, NULL, 't' },
		{ "vulnerable", no_argument, NULL, 'v' },
		{ 0 }
	};
	int word;

	while ((word = getopt_long(argc, argv, "", words, NULL)) != -1)
		switch (word) {
		case 'c':
			o->cert = optarg;
			break;
		case 'n':
			o->connections = number(optarg, ~0UL);
			break;
		case 'h':
			fputs(help, stdout);
			exit(0);
		case 'H':
			o->http = true;
			break;
		case 'k':
			o->key = optarg;
			break;
		case 'w':
			o->way = way_of(optarg);
			break;
		case 'p':
			*port = (unsigned short)number(optarg, 65535);
			break;
		case 't':
			o->threads = (unsigned int)number(optarg, 100);
			break;
		case 'v':
			o->vulnerable = true;
			break;
		default:
			exit(2);
		}
	if (optind < argc)
		bad(argv[optind]);
	if (!o->http && (!o->cert || !o->key))
		bad("a certificate and a key, or --http");
	if (!o->threads)
		bad("no threads");
}

int main(int argc, char **argv)
{
	struct options o = { .threads = 4 };
	unsigned short port = 0;

	parse(&o, &port, argc, argv);
	signal(SIGPIPE, SIG_IGN);
	o.listener = listen_on(&port);
	printf("httpsd: http%s://127.0.0.1:%u/\n", o.http ? "" : "s", port);
	fflush(stdout);
	if (o.way == COMPARTMENTS)
		compartments_serve(&o);
	else
		plain_serve(&o);
	return 0;
}
