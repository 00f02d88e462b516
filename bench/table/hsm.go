package main

import (
	"context"
	"fmt"
)

// hsm measures the security module: a process of its own on a SoftHSM token,
// asked over its Unix socket, and beside it the same PIN translation through
// the token's PKCS#11 in the asking process.
func (t *table) hsm(ctx context.Context) error {
	socket := func(name string) (map[string]float64, error) {
		return goBench(ctx, "./cmd/hsmd", "BenchmarkSocket/"+name+"$", t.short)
	}
	one, err := socket("translate-1")
	if err != nil {
		return err
	}
	many, err := socket("translate-64")
	if err != nil {
		return err
	}
	more, err := socket("translate-256")
	if err != nil {
		return err
	}
	dukpt, err := socket("dukpt-64")
	if err != nil {
		return err
	}
	mac, err := socket("mac-64")
	if err != nil {
		return err
	}
	t.figures["hsm.pin_translate_1_per_s"] = one["per_s"]
	t.figures["hsm.pin_translate_per_s"], t.figures["hsm.pin_translate_cpu_us"] = many["per_s"], many["cpu_us"]
	t.figures["hsm.pin_translate_256_per_s"] = more["per_s"]
	t.figures["hsm.dukpt_cpu_us"], t.figures["hsm.mac_200_cpu_us"] = dukpt["cpu_us"], mac["cpu_us"]
	open, err := goBench(ctx, "./hsm/tr31", "BenchmarkOpen$", t.short)
	if err != nil {
		return err
	}
	t.figures["hsm.tr31_open_us"] = open["ns/op"] / 1e3
	direct, err := goBench(ctx, "./hsm/token", "BenchmarkTranslateInToken$", t.short)
	if err != nil {
		return err
	}
	if direct["per_s"] == 0 {
		return fmt.Errorf("%w: a rate of PKCS#11 in process", errNoBenchmark)
	}
	t.figures["hsm.ratio_pkcs11"] = many["per_s"] / direct["per_s"]
	return nil
}
