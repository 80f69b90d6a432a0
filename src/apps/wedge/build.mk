# SPDX-License-Identifier: MIT
#
# libwedge: a static library and its header.

WEDGE	:= $(O)/obj/wedge
WEDGE_OBJECTS := $(patsubst wedge/%.c,$(WEDGE)/%.o,$(wildcard wedge/*.c))

all: $(O)/libwedge.a $(O)/include/wedge.h

$(O)/libwedge.a: $(WEDGE_OBJECTS)
	rm -f $@
	$(AR) rcs $@ $^

$(O)/include/wedge.h: wedge/wedge.h
	install -D -m 644 $< $@

# No vector registers: it runs between ring 3 and its saved ones.  No stack protector
# or sanitizer of the builder's: its code runs on page tables where libc's data is another.
$(WEDGE)/%.o: wedge/%.c Makefile wedge/build.mk
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) $(WARN) $(COMPILE) -mgeneral-regs-only -MMD -MP -c -o $@ $<

-include $(WEDGE_OBJECTS:.o=.d)
