# SPDX-License-Identifier: MIT
#
# dune-sandbox: main program with libc, and the monitor without (monitor/), which runs in
# ring 0 while the vector registers and the TLS are the program's.

SB	:= $(O)/obj/dune-sandbox
SB_SOURCES := $(wildcard dune-sandbox/*.c dune-sandbox/*.S)
SB_OBJECTS := $(patsubst dune-sandbox/%,$(SB)/%.o,$(basename $(SB_SOURCES)))
SB_MONITOR_SOURCES := $(wildcard dune-sandbox/monitor/*.c dune-sandbox/monitor/*.S)
SB_MONITOR := $(patsubst dune-sandbox/%,$(SB)/%.o,$(basename $(SB_MONITOR_SOURCES)))
SB_MONITOR_COMPILE := -std=gnu11 -D_GNU_SOURCE -fPIE -ffunction-sections -mgeneral-regs-only \
	   -fno-stack-protector -fno-builtin -fno-tree-loop-distribute-patterns \
	   -fno-strict-aliasing -fno-sanitize=all -fcf-protection=none -U_FORTIFY_SOURCE \
	   -mmemcpy-strategy=rep_byte:-1:noalign -mmemset-strategy=rep_byte:-1:noalign \
	   -I$(LIBDUNE)/include

all: $(O)/dune-sandbox

$(O)/dune-sandbox: $(SB).debug $(SB)/set_base
	$(STRIP) -o $@ $<
	$(SB)/set_base $@

$(SB).debug: $(SB_OBJECTS) $(SB_MONITOR) $(COMMON) $(SB)/monitor.ok $(LIBDUNE)/libdune.a
	$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $(filter %.o %.a,$^) $(LINK) -Wl,-e,sandbox_entry

# The monitor may need itself and libdune, and nothing of libc.
$(SB)/monitor.ok: $(SB_MONITOR)
	@$(NM) --defined-only -g $^ | awk 'NF == 3 { print $$3 }' | sort -u > $(SB)/defined
	@if $(NM) -u $^ | awk '$$1 == "U" { print $$2 }' | sort -u | comm -23 - $(SB)/defined | \
		grep -v -e '^dune_' -e '^pgroot$$' -e '^_GLOBAL_OFFSET_TABLE_$$'; then \
		echo "the monitor needs the symbols above" >&2; exit 1; fi
	@touch $@

$(SB)/set_base: dune-sandbox/tools/set_base.c dune-sandbox/arena.h
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

-include $(SB_OBJECTS:.o=.d) $(SB_MONITOR:.o=.d)
