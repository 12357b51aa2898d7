//go:build defect_forget_row

package defect

// Planted is the defect of this build.
const Planted = ForgetRow
