# SPDX-License-Identifier: MIT
#
# libdunegc: the Boehm collector (THIRD_PARTY/libgc, with libgc.patch applied) and its backend,
# as one static library, and its headers.

GC	:= $(O)/obj/gc
GC_SOURCE := $(THIRD_PARTY)/libgc
GC_OBJECTS := $(patsubst gc/%.c,$(GC)/%.o,$(wildcard gc/*.c)) $(GC)/libgc.o
# As the distribution's configure script finds them, but for GC_DUNE.
GC_FLAGS := -DALL_INTERIOR_POINTERS=1 -DATOMIC_UNCOLLECTABLE=1 -DGC_BUILTIN_ATOMIC=1 \
	-DGC_GCJ_SUPPORT=1 -DGC_THREADS=1 -DHANDLE_FORK=1 -DHAVE_DLADDR=1 \
	-DHAVE_DL_ITERATE_PHDR=1 -DHAVE_PTHREAD_GETATTR_NP=1 \
	-DHAVE_PTHREAD_SETNAME_NP_WITH_TID=1 -DHAVE_SIGSET_T=1 -DJAVA_FINALIZATION=1 \
	-DMUNMAP_THRESHOLD=6 -DNO_EXECUTE_PERMISSION=1 -DPARALLEL_MARK=1 \
	-DTHREAD_LOCAL_ALLOC=1 -DUSE_COMPILER_TLS=1 -DUSE_MMAP=1 -DUSE_MUNMAP=1 \
	-D_REENTRANT=1 -DGC_DUNE=1
GC_COMPILE := -std=gnu11 -D_GNU_SOURCE -fPIE -fno-strict-aliasing -w \
	-I$(GC_SOURCE)/include -Igc -I$(LIBDUNE)/include

all: $(O)/libdunegc.a $(O)/include/dune_gc.h $(O)/include/gc/gc.h

$(O)/libdunegc.a: $(GC_OBJECTS)
	rm -f $@
	$(AR) rcs $@ $^

$(O)/include/dune_gc.h: gc/dune_gc.h
	install -D -m 644 $< $@

$(O)/include/gc/gc.h: $(GC_SOURCE)/include/gc.h
	@mkdir -p $(@D)
	cp $(GC_SOURCE)/include/*.h $(@D)

# The whole collector as one file, which is a way of building it of its own.
$(GC)/libgc.o: $(GC_SOURCE)/extra/gc.c gc/dune_gc.h gc/dune_gc_hooks.h gc/build.mk
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) $(GC_COMPILE) $(GC_FLAGS) -c -o $@ $<

# No vector registers: a part of it runs in the page-fault handler.
$(GC)/%.o: gc/%.c Makefile gc/build.mk
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) $(WARN) $(COMPILE) -mgeneral-regs-only -MMD -MP -c -o $@ $<

-include $(GC_OBJECTS:.o=.d)
