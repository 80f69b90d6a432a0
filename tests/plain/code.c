// SPDX-License-Identifier: MIT
/* A program that runs code on its stack. */
#include <stdio.h>
#include <string.h>

int main(void)
{
	static const unsigned char code[] = { 0xb8, 0x2a, 0, 0, 0, 0xc3 };	/* mov $42, %eax; ret */
	unsigned char stack[sizeof(code)];
	int (*run)(void) = (int (*)(void))(void *)stack;

	memcpy(stack, code, sizeof(code));
	__asm__ volatile("" : : "r"(stack) : "memory");
	printf("%d\n", run());
	return 0;
}
