// Package texttable prints rows for people: in columns that fit a terminal.
//
// It knows nothing of what the rows are about.
package texttable

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/mattn/go-runewidth"
)

const (
	gap = "  "
	// narrowest is what a cell keeps where it may be cut.
	narrowest = 8
)

// terminal is how wide characters are: those that are wide in some terminals only, such as Greek ones between Chinese ones, are
// narrow in today's, whatever the locale.
var terminal = &runewidth.Condition{StrictEmojiNeutral: true}

// Write writes rows, the first of them the names of the columns, cut to a width, or whole with 0. The widest columns give way;
// those that are named last, one after the other, when the others cannot any more.
func Write(w io.Writer, rows [][]string, width int, last ...string) error {
	return Fixed(rows, width, last...).Write(w, rows)
}

// Columns are those of a table that is written bit by bit.
type Columns struct {
	widths []int
	uncut  bool // a wider cell moves the rest of its line
}

// Fixed are columns for a width, of cells as wide as those of a sample. With 0 nothing is cut.
func Fixed(sample [][]string, width int, last ...string) Columns {
	if width == 0 {
		return Columns{widths: fit(sample, math.MaxInt, last), uncut: true}
	}
	return Columns{widths: fit(sample, width, last)}
}

// Write writes rows.
func (c Columns) Write(w io.Writer, rows [][]string) error {
	var b strings.Builder
	for _, row := range rows {
		var line strings.Builder
		for i, cell := range row {
			if !c.uncut {
				cell = cut(cell, c.widths[i])
			}
			line.WriteString(cell)
			line.WriteString(strings.Repeat(" ", max(0, c.widths[i]-terminal.StringWidth(cell))+len(gap)))
		}
		b.WriteString(strings.TrimRight(line.String(), " "))
		b.WriteByte('\n')
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// fit is the width of each column: the widest ones give way until a line fits.
func fit(rows [][]string, width int, last []string) []int {
	if len(rows) == 0 {
		return nil
	}
	widths := make([]int, len(rows[0]))
	total := -len(gap)
	for i := range widths {
		for _, row := range rows {
			widths[i] = max(widths[i], terminal.StringWidth(row[i]))
		}
		total += widths[i] + len(gap)
	}
	for ; total > width; total-- {
		widest := -1
		for rank := -1; rank < len(last) && widest < 0; rank++ {
			for i, name := range rows[0] {
				if slices.Index(last, name) == rank && widths[i] > narrowest && (widest < 0 || widths[i] > widths[widest]) {
					widest = i
				}
			}
		}
		if widest < 0 {
			break
		}
		widths[widest]--
	}
	return widths
}

// cut shortens a cell between two characters, as people take them: with all that is above, below or joined to them.
func cut(s string, width int) string {
	rest := "..."
	if width < len(rest) {
		rest = ""
	}
	return terminal.Truncate(s, width, rest)
}

// Text is a string as a person can read it on one line: quoted where it could be taken for something else or do something to
// a terminal.
func Text(s string) string {
	if s == "" || s == "null" || s == "-" || s[0] == '"' || s[0] == ' ' || s[len(s)-1] == ' ' || !printable(s) {
		return strconv.Quote(s)
	}
	return s
}

// JSON is a JSON text with escapes in place of what could do something to a terminal. It is the same to whoever parses it.
func JSON(text []byte) string {
	var b strings.Builder
	for _, r := range string(text) {
		switch {
		case strconv.IsPrint(r):
			b.WriteRune(r)
		case r > 0xffff:
			high, low := utf16.EncodeRune(r)
			fmt.Fprintf(&b, `\u%04x\u%04x`, high, low)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return b.String()
}

func printable(s string) bool {
	for _, r := range s {
		if !strconv.IsPrint(r) {
			return false
		}
	}
	return utf8.ValidString(s)
}
