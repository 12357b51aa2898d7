//go:build defect_no_drain

package defect

// Planted is the defect of this build.
const Planted = NoDrain
