package main

import (
	"io"
	"os"
	"strconv"

	"golang.org/x/term"
)

// columnsOf is how wide a table may be: as COLUMNS says, else as the terminal is. 0 cuts nothing: what reads a pipe has no width.
func columnsOf(env func(string) (string, bool), out io.Writer) int {
	if text, ok := env("COLUMNS"); ok {
		if n, err := strconv.Atoi(text); err == nil && n > 0 {
			return n
		}
	}
	if file, ok := out.(*os.File); ok {
		if width, _, err := term.GetSize(int(file.Fd())); err == nil {
			return width
		}
	}
	return 0
}
