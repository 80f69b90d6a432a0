# SPDX-License-Identifier: MIT
#
# awk -v dir=OUT/man -f man.awk include/libdune/*.h
# awk -v dir=OUT/man -v lib=libwedge -v main=wedge -v below= -f man.awk wedge.h
#
# Manual pages from the comments of the public headers of a library: a page for each header, and
# for each part of its main one that a "---- name ----" line begins; for each function a page that
# refers to it.  What other comments say is the page's description.  What has no comment
# right above it has no page.

function quote(s) {
	gsub(/\\/, "\\e", s)
	gsub(/-/, "\\-", s)
	sub(/^[.']/, "\\\\\\&&", s)
	return s
}

BEGIN {
	if (lib == "") {
		lib = "libdune"
		main = "dune"
		below = "libdune/"
	}
}

function flush_page() {
	if (page == "" || (functions == 0 && page != "general"))
		return
	if (functions == 0)
		names = lib "\\-general"
	file = dir "/" lib "-" page ".3"
	print ".TH " toupper(lib) "\\-" toupper(quote(page)) " 3 \"\" " lib > file
	print ".SH NAME\n" names " \\- " lib ": " quote(title) > file
	print ".SH SYNOPSIS\n.nf\n#include <" below (header == "cpu-x86.h" ? header : main ".h") ">\n\n" \
		synopsis ".fi" > file
	if (about != "")
		print ".SH DESCRIPTION\n" about > file
	if (functions)
		print ".SH FUNCTIONS\n" body > file
	print ".SH SEE ALSO\n<" below header ">" > file
	close(file)
	if (page == "general") {
		print ".so man3/" lib "-general.3" > (dir "/" lib ".3")
		close(dir "/" lib ".3")
	}
}

function begin_page(name, of) {
	flush_page()
	page = name
	title = of
	names = synopsis = about = body = ""
	functions = 0
}

# A line of a comment, without its asterisk: @parameters begin a paragraph.
function text(line) {
	sub(/^[ \t]*\*[ \t]?/, "", line)
	if (line ~ /^[ \t]*$/)
		return ".PP\n"
	if (line ~ /^@[a-z_, @]+: /)
		return ".br\n" quote(line) "\n"
	sub(/^[ \t]+/, "", line)
	return quote(line) "\n"
}

FNR == 1 {
	flush_page()
	page = ""
	header = FILENAME
	sub(/^.*\//, "", header)
	name = header
	sub(/\.h$/, "", name)
	begin_page(name == main ? "general" : name, name == main ? "in general" : name)
	mode = ""
}

/^\/\* ---- .* -+ \*\/$/ {
	name = $0
	sub(/^\/\* ---- /, "", name)
	sub(/ -+ \*\/$/, "", name)
	part = name
	gsub(/ /, "-", name)
	begin_page(name, part)
	next
}

/^$/ { commented = 0 }
/\*\/$/ { commented = 1 }

mode == "" && /^\/\*$/ { mode = "about"; about = about (about == "" ? "" : ".PP\n"); next }
mode == "" && /^\/\*\*$/ { mode = "head"; next }

mode == "about" && /^ \*\/$/ { mode = ""; next }
mode == "about" { about = about text($0); next }

mode == "head" {
	line = $0
	sub(/^ \* /, "", line)
	body = body ".SS " quote(line) "\n"
	mode = "body"
	next
}
mode == "body" && /^ \*\/$/ { mode = "prototype"; next }
mode == "body" { body = body text($0); next }

# A variable.
mode == "" && commented && /^extern [a-z][a-z_0-9 *]* \*?[a-z_0-9]+[,;]/ {
	synopsis = synopsis quote($0) "\n"
	next
}

# A function that shares the comment of another.
mode == "" && commented && /^(static inline )?[a-z][a-z_0-9 *]* \*?[a-z_0-9]+\(/ && !/^typedef/ {
	mode = "prototype"
}

# One prototype, or several until an empty line; of an inline function its head.
mode == "prototype" && (/^$/ || /^[{}#]/) { mode = ""; next }
mode == "prototype" {
	line = $0
	if (line ~ /^[\t ]+[a-z]/ && line !~ /[,)]/) { mode = ""; next }
	sub(/^static inline /, "", line)
	sub(/[ \t]*__attribute__.*$/, "", line)
	if (line !~ /[,;]$/)
		line = line ";"
	synopsis = synopsis quote(line) "\n"
	if (match(line, /[a-z_0-9]+\(/) && line !~ /^[ \t]/) {
		fn = substr(line, RSTART, RLENGTH - 1)
		names = names (names == "" ? "" : ", ") fn
		functions++
		print ".so man3/" lib "-" page ".3" > (dir "/" fn ".3")
		close(dir "/" fn ".3")
	}
}

END { flush_page() }
