/* SPDX-License-Identifier: MIT */
/*
 * Saving and loading the x87, SSE, AVX and AVX-512 registers (SDM volume 1, chapter
 * 13; APM volume 1, chapter 5).
 *
 * Handlers need none of this: libdune saves these registers around them.  It is for
 * programs that switch between contexts of their own.
 *
 * Thread rules: of the calling thread's registers; any thread, in and out of Dune
 * mode.  The registers are those at the call, as far as compiled code leaves them
 * alone: a caller that keeps values in vector registers across it loses them, as
 * across any call.  Nothing fails.
 *
 * Not saved: AMX tiles (8 KB), and PKRU, which are access rights and no registers.
 */
#ifndef LIBDUNE_FPU_H
#define LIBDUNE_FPU_H

#include <stdint.h>
#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif

/* What FXSAVE writes (SDM volume 1, 10.5.1). */
struct fxsave_area {
	uint16_t cwd;
	uint16_t swd;
	uint16_t twd;
	uint16_t fop;
	uint64_t rip;
	uint64_t rdp;
	uint32_t mxcsr;
	uint32_t mxcsr_mask;
	uint32_t st_regs[32];	/* 8 registers of 16 bytes */
	uint32_t xmm_regs[64];	/* 16 registers of 16 bytes */
	uint32_t padding[24];
} __attribute__((packed));

struct xsave_header {
	uint64_t xstate_bv;	/* the components that are not in their initial state */
	uint64_t reserved_zero[2];
	uint64_t reserved[5];
} __attribute__((packed));

/*
 * The standard form of XSAVE.  Where the components behind ymm_regs lie is the CPU's
 * own; those of AVX-512 fit into the area on all CPUs that have it.
 */
struct xsave_area {
	struct fxsave_area fxsave;
	struct xsave_header header;
	uint32_t ymm_regs[64];	/* the upper halves */
	uint8_t other[1856];
} __attribute__((packed, aligned(64)));

/* The caller's, aligned to 64 bytes. */
struct fpu_area {
	struct xsave_area xsave;
};

/**
 * dune_fpu_init - the state that a new process has
 *
 * All registers 0, all exceptions masked, x87 precision 64 bits.  Changes *fp, not
 * the registers.
 */
void dune_fpu_init(struct fpu_area *fp);

/**
 * dune_fpu_load - load the registers
 * @fp: from dune_fpu_init(), dune_fpu_save() or dune_fpu_save_safe(); anything else may
 *	raise #GP
 */
void dune_fpu_load(struct fpu_area *fp);

/**
 * dune_fpu_save - save the registers into the area that they were loaded from
 *
 * The caller's last dune_fpu_load() must have been of the same *fp, unchanged since:
 * the CPU may leave out what has not changed (XSAVEOPT).
 */
void dune_fpu_save(struct fpu_area *fp);

/**
 * dune_fpu_save_safe - save the registers into any area
 *
 * Its contents before do not matter.
 */
void dune_fpu_save_safe(struct fpu_area *fp);

#ifdef __cplusplus
}
#endif

#endif /* LIBDUNE_FPU_H */
