# SPDX-License-Identifier: MIT
#
# libwedge: a static library, its header, and the manual pages that `make man` makes of it.

WEDGE	:= $(O)/obj/wedge
WEDGE_OBJECTS := $(patsubst wedge/%.c,$(WEDGE)/%.o,$(wildcard wedge/*.c))

all: $(O)/libwedge.a $(O)/include/wedge.h

$(O)/libwedge.a: $(WEDGE_OBJECTS)
	rm -f $@
	$(AR) rcs $@ $^

$(O)/include/wedge.h: wedge/wedge.h
	install -D -m 644 $< $@

# Manual pages, from the header.
man: $(O)/man/libwedge.3

$(O)/man/libwedge.3: ../libdune/man.awk wedge/wedge.h
	@mkdir -p $(@D)
	awk -v dir=$(@D) -v lib=libwedge -v main=wedge -v below= -f $^

# No vector registers: it runs between ring 3 and its saved ones.  No stack protector
# or sanitizer of the builder's: its code runs on page tables where libc's data is another.
$(WEDGE)/%.o: wedge/%.c Makefile wedge/build.mk
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) $(WARN) $(COMPILE) -mgeneral-regs-only -MMD -MP -c -o $@ $<

.PHONY: man
-include $(WEDGE_OBJECTS:.o=.d)
