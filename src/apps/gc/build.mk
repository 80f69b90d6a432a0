# SPDX-License-Identifier: MIT
#
# libdunegc: the Boehm collector (THIRD_PARTY/libgc, with libgc.patch applied) and its backend,
# and libdune, as one static library, and its headers.  And what its tests and benchmarks want.

GC	:= $(O)/obj/gc
GC_SOURCE := $(THIRD_PARTY)/libgc
GC_OBJECTS := $(patsubst gc/%.c,$(GC)/%.o,$(filter-out gc/bounds.c,$(wildcard gc/*.c)))
# As the distribution's configure script finds them, but for GC_DUNE.
GC_FLAGS := -DALL_INTERIOR_POINTERS=1 -DATOMIC_UNCOLLECTABLE=1 -DENABLE_DISCLAIM=1 \
	-DGC_BUILTIN_ATOMIC=1 -DGC_GCJ_SUPPORT=1 -DGC_THREADS=1 -DHANDLE_FORK=1 -DHAVE_DLADDR=1 \
	-DHAVE_DL_ITERATE_PHDR=1 -DHAVE_PTHREAD_GETATTR_NP=1 \
	-DHAVE_PTHREAD_SETNAME_NP_WITH_TID=1 -DHAVE_SIGSET_T=1 -DJAVA_FINALIZATION=1 \
	-DMUNMAP_THRESHOLD=6 -DNO_EXECUTE_PERMISSION=1 -DPARALLEL_MARK=1 \
	-DTHREAD_LOCAL_ALLOC=1 -DUSE_COMPILER_TLS=1 -DUSE_MMAP=1 -DUSE_MUNMAP=1 \
	-D_REENTRANT=1 -DGC_DUNE=1
GC_COMPILE := -std=gnu11 -D_GNU_SOURCE -fPIE -fno-strict-aliasing -w \
	-I$(GC_SOURCE)/include -Igc -I$(LIBDUNE)/include

all: $(O)/libdunegc.a $(O)/include/dune_gc.h $(O)/include/gc/gc.h

$(O)/libdunegc.a: $(GC)/libgc.o $(GC)/dune.o
	rm -f $@
	$(AR) rcs $@ $^

# libdune and the backend between two marks: see bounds.c.
$(GC)/dune.o: $(GC)/begin.o $(GC_OBJECTS) $(LIBDUNE)/libdune.a $(GC)/end.o
	$(CC) -r -nostdlib -o $@ $(GC)/begin.o $(GC_OBJECTS) -Wl,--whole-archive \
		$(LIBDUNE)/libdune.a -Wl,--no-whole-archive $(GC)/end.o

$(GC)/end.o: COMPILE += -DEND
$(GC)/begin.o $(GC)/end.o: gc/bounds.c gc/dune_gc_hooks.h gc/build.mk
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) $(WARN) $(COMPILE) -c -o $@ $<

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

# ---- for the tests: libgc's own

# As one library: each main() has a name of its own, and of other names nobody knows.
GC_TESTS := test leak_test middle smash_test huge_test realloc_test test_atomic_ops \
	thread_leak_test threadkey_test subthread_create initsecondarythread disclaim_test \
	disclaim_weakmap_test cordtest
GC_TEST_OBJECTS := $(GC_TESTS:%=$(GC)/tests/%.o)
vpath %.c $(GC_SOURCE)/tests $(GC_SOURCE)/cord/tests

all: $(O)/libgctests.a

$(O)/libgctests.a: $(GC_TEST_OBJECTS)
	rm -f $@
	$(AR) rcs $@ $^

$(GC)/tests/cordtest.o: GC_CORD := $(wildcard $(GC_SOURCE)/cord/*.c)

$(GC)/tests/%.o: %.c gc/dune_gc.h gc/dune_gc_hooks.h gc/build.mk
	@mkdir -p $(@D)/$*
	set -e; for file in $< $(GC_CORD); do $(CC) $(CFLAGS) $(GC_COMPILE) $(GC_FLAGS) \
		-Dmain=libgc_$* -c -o $(@D)/$*/$$(basename $$file).o $$file; done
	$(CC) -r -nostdlib -o $@ $(@D)/$*/*.o
	$(OBJCOPY) --keep-global-symbol=libgc_$* $@

# ---- for the tests: expat

all: $(O)/libexpat.a $(O)/include/expat/expat.h

EXPAT	:= $(THIRD_PARTY)/expat/expat/lib
EXPAT_OBJECTS := $(patsubst %,$(O)/obj/expat/%.o,xmlparse xmlrole xmltok)

$(O)/libexpat.a: $(EXPAT_OBJECTS)
	rm -f $@
	$(AR) rcs $@ $^

$(O)/include/expat/expat.h: $(EXPAT)/expat.h
	@mkdir -p $(@D)
	cp $(EXPAT)/expat.h $(EXPAT)/expat_external.h $(@D)

# Its configuration is a header that a script makes; these are what it would say.
$(O)/obj/expat/%.o: $(EXPAT)/%.c gc/build.mk
	@mkdir -p $(@D)
	touch $(@D)/expat_config.h
	$(CC) $(CFLAGS) -std=gnu11 -fPIE -w -DBYTEORDER=1234 -DHAVE_GETRANDOM=1 -DXML_NS=1 \
		-DXML_DTD=1 -DXML_CONTEXT_BYTES=1024 -I$(@D) -c -o $@ $<

# ---- for the benchmarks: w3m, whose memory is all the collector's

all: $(O)/libw3m.a

W3M	:= $(abspath $(O))/obj/w3m
# It dumps a page from a file; what it would need a library for is left out.  The terminal's
# functions, which it does not call then, come from the program that it is linked to.
W3M_OPTIONS := --disable-nls --disable-m17n --disable-image --disable-xface --disable-mouse \
	--disable-help-cgi --disable-w3mmailer --disable-dict --disable-cookie --disable-history \
	--disable-nntp --disable-gopher --disable-digest-auth --with-ssl=no \
	--with-termlib=termcap ac_cv_lib_termcap_tgetent=yes

# As one object whose main() is w3m_main(); of other names nobody knows.
$(O)/libw3m.a: $(O)/libdunegc.a $(O)/include/gc/gc.h gc/build.mk
	rm -rf $(W3M)
	mkdir -p $(W3M)/build $(W3M)/lib $(W3M)/include
	cp $< $(W3M)/lib/libgc.a
	cp $(O)/include/gc/*.h $(W3M)/include
	cd $(W3M)/build && $(abspath $(THIRD_PARTY))/w3m/configure -q $(W3M_OPTIONS) \
		--with-gc=$(W3M) CC="$(CC)" CFLAGS="-O2 -w -fPIE" LDFLAGS="-L$(W3M)/lib -pthread" \
		>configure.log 2>&1 || { cat configure.log >&2; exit 1; }
	printf 'objects: $$(ALLOBJS) $$(ALIBOBJS)\n' >$(W3M)/objects.mk
	$(MAKE) -s -C $(W3M)/build -f Makefile -f ../objects.mk objects
	cd $(W3M)/build && rm -f mktable.o dummy.o && $(CC) -r -nostdlib -o ../w3m.o *.o
	$(OBJCOPY) --redefine-sym main=w3m_main --keep-global-symbol=w3m_main \
		--redefine-sym GC_malloc=w3m_malloc \
		--redefine-sym GC_malloc_atomic=w3m_malloc_atomic $(W3M)/w3m.o
	rm -f $@
	$(AR) rcs $@ $(W3M)/w3m.o

-include $(GC_OBJECTS:.o=.d)
