# SPDX-License-Identifier: MIT
# Twelve objects, a library of them, a program.
PARTS := $(addprefix part,1 2 3 4 5 6 7 8 9 10 11 12)

all: program
	@./program

part%.c:
	@printf 'int part$*(void) { return $*; }\n' >$@

main.c:
	@for p in $(PARTS); do echo "int $$p(void);"; done >$@
	@printf '#include <stdio.h>\nint main(void) { printf("%%d\\n", 0' >>$@
	@for p in $(PARTS); do printf " + $$p()"; done >>$@
	@echo '); return 0; }' >>$@

%.o: %.c
	@$(CC) -O2 -c -o $@ $<

parts.a: $(PARTS:=.o)
	@ar rcsD $@ $^

program: main.o parts.a
	@$(CC) -o $@ $^

.PRECIOUS: part%.c
