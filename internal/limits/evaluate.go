package main

import (
	"errors"
	"fmt"
	"go/ast"
	"go/token"
	"strconv"
	"time"
)

// errExpression is a default that is more than a sum.
var errExpression = errors.New("too clever to be read here")

// evaluate gives the value of a constant expression: numbers, the units of
// package time, the package's constants, other defaults of the same struct,
// min and max, and conversions.
func (f *folder) evaluate(e ast.Expr, typ string) (int64, error) {
	switch e := e.(type) {
	case *ast.BasicLit:
		if e.Kind == token.INT {
			return strconv.ParseInt(e.Value, 0, 64) //nolint:wrapcheck // the parser took it already
		}
	case *ast.ParenExpr:
		return f.evaluate(e.X, typ)
	case *ast.BinaryExpr:
		return f.calculate(e, typ)
	case *ast.Ident:
		if c, ok := f.consts[e.Name]; ok {
			return f.evaluate(c.value, typ)
		}
	case *ast.SelectorExpr:
		if d, ok := map[string]time.Duration{"Hour": time.Hour, "Minute": time.Minute, "Second": time.Second, "Millisecond": time.Millisecond, "Microsecond": time.Microsecond}[e.Sel.Name]; ok {
			return int64(d), nil
		}
		if other := f.defaults[typ][path(e)]; other != nil {
			return f.evaluate(other, typ)
		}
		return 0, nil // a field without a default
	case *ast.CallExpr:
		return f.call(e, typ)
	}
	return 0, fmt.Errorf("%T: %w", e, errExpression)
}

func (f *folder) calculate(e *ast.BinaryExpr, typ string) (int64, error) {
	x, err := f.evaluate(e.X, typ)
	if err != nil {
		return 0, err
	}
	y, err := f.evaluate(e.Y, typ)
	if err != nil {
		return 0, err
	}
	switch e.Op {
	case token.ADD:
		return x + y, nil
	case token.SUB:
		return x - y, nil
	case token.MUL:
		return x * y, nil
	case token.SHR:
		return x >> y, nil
	case token.SHL:
		return x << y, nil
	}
	return 0, fmt.Errorf("%s: %w", e.Op, errExpression)
}

// call reads max, min and conversions.
func (f *folder) call(e *ast.CallExpr, typ string) (int64, error) {
	var values []int64
	for _, argument := range e.Args {
		v, err := f.evaluate(argument, typ)
		if err != nil {
			return 0, err
		}
		values = append(values, v)
	}
	name := ""
	if i, ok := e.Fun.(*ast.Ident); ok {
		name = i.Name
	}
	switch {
	case name == "max" && len(values) == 2:
		return max(values[0], values[1]), nil
	case name == "min" && len(values) == 2:
		return min(values[0], values[1]), nil
	case len(values) == 1:
		return values[0], nil
	}
	return 0, fmt.Errorf("%s: %w", name, errExpression)
}
