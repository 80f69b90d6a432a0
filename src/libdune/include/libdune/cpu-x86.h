/* SPDX-License-Identifier: MIT */
/*
 * Names of exception vectors (SDM table 6-1, APM table 8-1), for
 * dune_register_intr_handler().
 */
#ifndef LIBDUNE_CPU_X86_H
#define LIBDUNE_CPU_X86_H

#define T_DIVIDE	0	/* #DE */
#define T_DEBUG		1	/* #DB */
#define T_NMI		2	/* goes to the host, never to a handler */
#define T_BRKPT		3	/* #BP */
#define T_OFLOW		4	/* #OF */
#define T_BOUND		5	/* #BR */
#define T_ILLOP		6	/* #UD */
#define T_DEVICE	7	/* #NM */
#define T_DBLFLT	8	/* #DF: libdune's own, always fatal */
#define T_TSS		10	/* #TS */
#define T_SEGNP		11	/* #NP */
#define T_STACK		12	/* #SS */
#define T_GPFLT		13	/* #GP */
#define T_PGFLT		14	/* #PF */
#define T_FPERR		16	/* #MF */
#define T_ALIGN		17	/* #AC */
#define T_MCHK		18	/* goes to the host, never to a handler */
#define T_SIMDERR	19	/* #XM */

#endif /* LIBDUNE_CPU_X86_H */
