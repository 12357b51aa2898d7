//go:build defect_outside

package defect

// Planted is the defect of this build.
const Planted = Outside
