//go:build defect_no_line

package defect

// Planted is the defect of this build.
const Planted = NoLine
