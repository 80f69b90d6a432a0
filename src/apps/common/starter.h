/* SPDX-License-Identifier: MIT */
/* Messages and statuses of the programs that start others: dune-run, dune-sandbox. */
#ifndef APPS_STARTER_H
#define APPS_STARTER_H

#include "load.h"

#define EXIT_OWN	125	/* the starter itself failed, or ended the program */
#define EXIT_CANNOT	126	/* the program was found and cannot be started */
#define EXIT_NOT_FOUND	127

/* Each starter's own: its name, and what it says where a fixed address is taken. */
extern const char own_name[], address_taken[];

void die(int status, const char *fmt, ...) __attribute__((noreturn, format(printf, 2, 3)));
void print_and_exit(const char *text) __attribute__((noreturn));
void cannot_start(const struct command *c, const char *name, int err) __attribute__((noreturn));
void map_command(struct command *c, const char *name);	/* or die() */
const char *advice(int err);				/* about a failed dune_init() */

#endif /* APPS_STARTER_H */
