// SPDX-License-Identifier: GPL-2.0-only
/* A module to test that is not Dune: /dev/hello says hello. */
#include <linux/fs.h>
#include <linux/miscdevice.h>
#include <linux/module.h>

static ssize_t hello_read(struct file *file, char __user *to, size_t len, loff_t *pos)
{
	static const char text[] = "hello\n";

	return simple_read_from_buffer(to, len, pos, text, sizeof(text) - 1);
}

static const struct file_operations hello_fops = {
	.owner	= THIS_MODULE,
	.read	= hello_read,
};

static struct miscdevice hello = {
	.minor	= MISC_DYNAMIC_MINOR,
	.name	= "hello",
	.fops	= &hello_fops,
};
module_misc_device(hello);

MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("A worked example of a module under test");
