package payload

import (
	"encoding/binary"
	"math"
)

// avroReader reads Avro's binary form. What a value claims costs nothing before it is there: its length bounds how much it may consist of.
type avroReader struct {
	in []byte
	trail
}

func newAvroReader(in []byte) avroReader { return avroReader{in, newTrail(len(in))} }

func (r *avroReader) cut() error {
	return r.fail("ends in the middle: it is cut, or of another schema")
}

func (r *avroReader) take(n int) ([]byte, error) {
	if n < 0 || n > len(r.in) {
		return nil, r.cut()
	}
	taken := r.in[:n]
	r.in = r.in[n:]
	return taken, nil
}

func (r *avroReader) long() (int64, error) {
	v, n := binary.Varint(r.in)
	switch {
	case n == 0:
		return 0, r.cut()
	case n < 0:
		return 0, r.fail("has a number of more than 64 bits")
	}
	r.in = r.in[n:]
	return v, nil
}

func (r *avroReader) int() (int64, error) {
	v, err := r.long()
	if err == nil && (v < math.MinInt32 || v > math.MaxInt32) {
		return 0, r.fail("has the int %d, of more than 32 bits", v)
	}
	return v, err
}

func (r *avroReader) boolean() (bool, error) {
	b, err := r.take(1)
	if err == nil && b[0] > 1 {
		return false, r.fail("has the boolean %d, which is neither 0 nor 1", b[0])
	}
	return err == nil && b[0] == 1, err
}

func (r *avroReader) float() (float64, error) {
	b, err := r.take(4)
	if err != nil {
		return 0, err
	}
	return float64(math.Float32frombits(binary.LittleEndian.Uint32(b))), nil
}

func (r *avroReader) double() (float64, error) {
	b, err := r.take(8)
	if err != nil {
		return 0, err
	}
	return math.Float64frombits(binary.LittleEndian.Uint64(b)), nil
}

func (r *avroReader) bytes() ([]byte, error) {
	n, err := r.long()
	if err != nil {
		return nil, err
	}
	if n < 0 || n > int64(len(r.in)) {
		return nil, r.fail("claims to be %d bytes long, and %d are left", n, len(r.in))
	}
	return r.take(int(n))
}

// symbol reads the value of an enum.
func (r *avroReader) symbol(t *avroType) (string, error) {
	i, err := r.int()
	if err != nil {
		return "", err
	}
	if i < 0 || i >= int64(len(t.symbols)) {
		return "", r.fail("has symbol %d of %s, which has %d", i, t, len(t.symbols))
	}
	return t.symbols[i], nil
}

// branch reads which type of a union follows, until it is none.
func (r *avroReader) branch(t *avroType) (*avroType, error) {
	for t.kind == "union" {
		i, err := r.long()
		if err != nil {
			return nil, err
		}
		if i < 0 || i >= int64(len(t.branches)) {
			return nil, r.fail("has branch %d of a union of %d types", i, len(t.branches))
		}
		t = t.branches[i]
	}
	return t, nil
}

// blocks calls f for each element of an array or a map, with its index.
func (r *avroReader) blocks(f func(index int) error) error {
	for index := 0; ; {
		count, err := r.long()
		switch {
		case err != nil:
			return err
		case count == 0:
			return nil
		case count == math.MinInt64:
			return r.fail("claims to have %d elements", count)
		case count < 0:
			count = -count
			if _, err := r.long(); err != nil { // the bytes of the block, for those who pass over it
				return err
			}
		}
		if count > int64(r.budget) {
			return r.fail("claims to have %d elements, and %d bytes are left", count, len(r.in))
		}
		for range count {
			if err := f(index); err != nil {
				return err
			}
			index++
		}
	}
}

// skip passes over a value.
func (r *avroReader) skip(t *avroType) error {
	t, err := r.branch(t)
	if err != nil {
		return err
	}
	switch t.kind {
	case "boolean":
		_, err = r.boolean()
	case "int", "long":
		_, err = r.long()
	case "enum":
		_, err = r.symbol(t)
	case "float":
		_, err = r.take(4)
	case "double":
		_, err = r.take(8)
	case "bytes", "string":
		_, err = r.bytes()
	case "fixed":
		_, err = r.take(t.size)
	case "array":
		err = r.blocks(func(i int) error {
			return r.within(avroStep{index: i}, func() error { return r.skip(t.element) })
		})
	case "map":
		err = r.blocks(func(int) error {
			key, err := r.bytes()
			if err != nil {
				return err
			}
			return r.within(avroStep{name: string(key), isKey: true}, func() error { return r.skip(t.element) })
		})
	case "record":
		for i := range t.fields {
			f := &t.fields[i]
			if err := r.within(avroStep{name: f.name}, func() error { return r.skip(f.typ) }); err != nil {
				return err
			}
		}
	}
	return err
}
