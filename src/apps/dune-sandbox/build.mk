# SPDX-License-Identifier: MIT
#
# libdunesandbox: what starts a program, with libc, and the monitor without (monitor/), which
# runs in ring 0 while the vector registers and the TLS are the program's.  dune-sandbox is a
# program that is linked to it (program/).

SB	:= $(O)/obj/dune-sandbox
SB_SOURCES := $(wildcard dune-sandbox/*.c dune-sandbox/*.S)
SB_PROGRAM := $(patsubst dune-sandbox/%.c,$(SB)/%.o,$(wildcard dune-sandbox/program/*.c))
SB_OBJECTS := $(patsubst dune-sandbox/%,$(SB)/%.o,$(basename $(SB_SOURCES)))
SB_MONITOR_SOURCES := $(wildcard dune-sandbox/monitor/*.c dune-sandbox/monitor/*.S)
SB_MONITOR := $(patsubst dune-sandbox/%,$(SB)/%.o,$(basename $(SB_MONITOR_SOURCES)))
SB_MONITOR_COMPILE := -std=gnu11 -D_GNU_SOURCE -fPIE -ffunction-sections -mgeneral-regs-only \
	   -fno-stack-protector -fno-builtin -fno-tree-loop-distribute-patterns \
	   -fno-strict-aliasing -fno-sanitize=all -fcf-protection=none -U_FORTIFY_SOURCE \
	   -mmemcpy-strategy=rep_byte:-1:noalign -mmemset-strategy=rep_byte:-1:noalign \
	   -I$(LIBDUNE)/include

all: $(O)/dune-sandbox $(O)/libdunesandbox.a $(O)/include/dunesandbox.h $(O)/dunesandbox.pc \
	$(O)/dune-sandbox-base

$(O)/dune-sandbox: $(SB).debug $(O)/dune-sandbox-base
	$(STRIP) -o $@ $<
	$(O)/dune-sandbox-base $@

$(SB).debug: $(SB_PROGRAM) $(COMMON_OBJ)/starter.o $(O)/libdunesandbox.a $(LIBDUNE)/libdune.a
	$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^ $(LINK) -Wl,-e,sandbox_entry

# One object, so that nothing of it but its interface has a name that others could want.
$(O)/libdunesandbox.a: $(SB)/dunesandbox.o
	rm -f $@
	$(AR) rcs $@ $<

$(SB)/dunesandbox.o: $(SB_OBJECTS) $(SB_MONITOR) $(COMMON) $(SB)/monitor.ok
	$(CC) -r -nostdlib -o $@ $(filter %.o,$^)
	$(OBJCOPY) --wildcard --keep-global-symbol='dune_sandbox_*' \
		--keep-global-symbol=sandbox_entry $@

$(O)/include/dunesandbox.h: dune-sandbox/dunesandbox.h
	install -D -m 644 $< $@

$(O)/dunesandbox.pc: dune-sandbox/dunesandbox.pc.in $(LIBDUNE)/libdune.pc
	sed 's|@VERSION@|$(VERSION)|' $< > $@

# The monitor may need itself and libdune, and nothing of libc.
$(SB)/monitor.ok: $(SB_MONITOR)
	@$(NM) --defined-only -g $^ | awk 'NF == 3 { print $$3 }' | sort -u > $(SB)/defined
	@if $(NM) -u $^ | awk '$$1 == "U" { print $$2 }' | sort -u | comm -23 - $(SB)/defined | \
		grep -v -e '^dune_' -e '^pgroot$$' -e '^_GLOBAL_OFFSET_TABLE_$$'; then \
		echo "the monitor needs the symbols above" >&2; exit 1; fi
	@touch $@

$(O)/dune-sandbox-base: dune-sandbox/tools/set_base.c dune-sandbox/arena.h
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) $(WARN) -std=gnu11 -o $@ $<

$(SB)/monitor/%.o: dune-sandbox/monitor/%.c Makefile dune-sandbox/build.mk
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) $(WARN) $(SB_MONITOR_COMPILE) -MMD -MP -c -o $@ $<

$(SB)/monitor/%.o: dune-sandbox/monitor/%.S Makefile dune-sandbox/build.mk
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) $(WARN) $(SB_MONITOR_COMPILE) -MMD -MP -c -o $@ $<

$(SB)/%.o: dune-sandbox/%.c Makefile dune-sandbox/build.mk
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) $(WARN) $(COMPILE) -MMD -MP -c -o $@ $<

$(SB)/%.o: dune-sandbox/%.S Makefile dune-sandbox/build.mk
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) $(WARN) $(COMPILE) -MMD -MP -c -o $@ $<

-include $(SB_OBJECTS:.o=.d) $(SB_PROGRAM:.o=.d) $(SB_MONITOR:.o=.d)
