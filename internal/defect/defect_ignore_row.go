//go:build defect_ignore_row

package defect

// Planted is the defect of this build.
const Planted = IgnoreRow
