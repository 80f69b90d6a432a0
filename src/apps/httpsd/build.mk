# SPDX-License-Identifier: MIT
#
# httpsd, the demonstrator of libwedge, and libhttpsd.a, the same without main() for its benchmark.
# With the OpenSSL of the system, or that of THIRD_PARTY.

HTTPSD	:= $(O)/obj/httpsd
HTTPSD_OBJECTS := $(patsubst httpsd/%.c,$(HTTPSD)/%.o,$(wildcard httpsd/*.c))
ifneq ($(THIRD_PARTY),)
OPENSSL	:= $(THIRD_PARTY)/openssl/usr
OPENSSL_INCLUDE := -I$(OPENSSL)/include -I$(OPENSSL)/include/x86_64-linux-gnu
# What libcrypto itself wants is in the guest.
OPENSSL_LINK := -L$(OPENSSL)/lib/x86_64-linux-gnu -Wl,--allow-shlib-undefined

all: $(O)/httpsd $(O)/libhttpsd.a $(O)/include/httpsd.h
endif

httpsd: $(O)/httpsd

# As docs/wedge.md wants it: all functions bound, and no variable of a library in the program.
$(O)/httpsd: $(HTTPSD)/main.o $(O)/libhttpsd.a $(O)/libwedge.a $(LIBDUNE)/libdune.a
	$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^ -pie -Wl,-z,now $(OPENSSL_LINK) -lssl -lcrypto -pthread

$(O)/libhttpsd.a: $(filter-out %/main.o,$(HTTPSD_OBJECTS))
	rm -f $@
	$(AR) rcs $@ $^

$(O)/include/httpsd.h: httpsd/httpsd.h
	install -D -m 644 $< $@

# Keys with methods of the program's own are what OpenSSL 3 calls deprecated, and has.
$(HTTPSD)/%.o: httpsd/%.c Makefile httpsd/build.mk $(O)/include/wedge.h
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) $(WARN) -std=gnu11 -D_GNU_SOURCE -fPIC -DOPENSSL_API_COMPAT=10101 \
		-I$(O)/include -I$(LIBDUNE)/include $(OPENSSL_INCLUDE) -pthread -MMD -MP -c -o $@ $<

.PHONY: httpsd
-include $(HTTPSD_OBJECTS:.o=.d)
