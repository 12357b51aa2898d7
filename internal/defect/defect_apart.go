//go:build defect_apart

package defect

// Planted is the defect of this build.
const Planted = Apart
