package topology

import (
	"fmt"
	"strings"
)

// Bounds on the search for a similar name: it helps people with a typing error, and must not cost time on a
// file with thousands of wrong names.
const (
	maxNearestNames  = 500
	maxNearestLength = 100
	maxListedNames   = 20
)

// hint ends a message about an unknown name: with the nearest known name, else with the known ones.
// It is empty where nothing helpful is known.
func hint(name string, known []string) string {
	if near := nearest(name, known); near != "" {
		return fmt.Sprintf("; did you mean `%s`?", near)
	}
	if len(known) == 0 || len(known) > maxListedNames {
		return ""
	}
	return "; known: " + strings.Join(known, ", ")
}

// nearest is the known name with the fewest edits from name, or "" when none is similar.
func nearest(name string, known []string) string {
	if len(known) > maxNearestNames || len(name) > maxNearestLength {
		return ""
	}
	best, limit := "", max(2, len(name)/3)+1
	for _, k := range known {
		if d := edits(strings.ToLower(name), strings.ToLower(k), limit); d < limit && d < max(len(name), 1) {
			best, limit = k, d
		}
	}
	return best
}

// edits is the number of bytes to insert, remove, replace or swap with the next one to get from a to b, or at least
// limit where it cannot be below it.
func edits(a, b string, limit int) int {
	if d := len(a) - len(b); d >= limit || -d >= limit {
		return limit
	}
	var before []int // the row above the one above
	above := make([]int, len(b)+1)
	for j := range above {
		above[j] = j
	}
	for i := range len(a) {
		row := make([]int, len(b)+1)
		row[0] = i + 1
		for j := range len(b) {
			substitute := above[j]
			if a[i] != b[j] {
				substitute++
			}
			row[j+1] = min(substitute, row[j]+1, above[j+1]+1)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], before[j-1]+1)
			}
		}
		before, above = above, row
	}
	return above[len(b)]
}
