# SPDX-License-Identifier: MIT
#
# libdunesnapshot: a static library and its header.

SNAP	:= $(O)/obj/snapshot
SNAP_OBJECTS := $(patsubst snapshot/%.c,$(SNAP)/%.o,$(wildcard snapshot/*.c))

all: $(O)/libdunesnapshot.a $(O)/include/dune_snapshot.h

$(O)/libdunesnapshot.a: $(SNAP_OBJECTS)
	rm -f $@
	$(AR) rcs $@ $^

$(O)/include/dune_snapshot.h: snapshot/dune_snapshot.h
	install -D -m 644 $< $@

# No vector registers: a part of it runs in the page-fault handler.
$(SNAP)/%.o: snapshot/%.c Makefile snapshot/build.mk
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) $(WARN) $(COMPILE) -mgeneral-regs-only -MMD -MP -c -o $@ $<

-include $(SNAP_OBJECTS:.o=.d)
