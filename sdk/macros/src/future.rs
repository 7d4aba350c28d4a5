//! Functions that are not `async` and give a future all the same: what `async_trait` makes of a method, and those written so.
//!
//! In: the body of a function, or the type it gives. Out: the `async` block the body ends with, or how the type holds a
//! future. It goes by the words alone: what hides behind a name of its own is found by the compiler, when the attempt is judged.

use quote::quote;
use syn::punctuated::Punctuated;
use syn::visit_mut::{self, VisitMut};
use syn::{
    AssocType, Block, Expr, ExprAsync, ExprClosure, ExprPath, ExprReturn, GenericArgument, Item, PathArguments, Stmt,
    Token, TraitBound, Type, TypeInfer, TypeParamBound, TypePath,
};

/// How a type holds the future it gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Holds {
    /// `impl Future`
    Opaque,
    /// `Pin<Box<dyn Future>>`, `BoxFuture`, `LocalBoxFuture`
    Boxed,
}

/// The `async` block that is all this body gives: its last expression, boxed or not. None where another future may be
/// returned before.
pub(crate) fn only_async(body: &mut Block) -> Option<&mut ExprAsync> {
    let mut returns = Returns(false);
    returns.visit_block_mut(body);
    match body.stmts.last_mut()? {
        Stmt::Expr(last, None) if !returns.0 => async_in(last),
        _ => None,
    }
}

fn async_in(expr: &mut Expr) -> Option<&mut ExprAsync> {
    match expr {
        Expr::Async(block) => Some(block),
        Expr::Paren(inner) => async_in(&mut inner.expr),
        Expr::Group(inner) => async_in(&mut inner.expr),
        Expr::Cast(cast) => async_in(&mut cast.expr),
        Expr::Call(call) if is_box_pin(&call.func) => async_in(call.args.first_mut()?),
        Expr::MethodCall(call) if call.method == "boxed" || call.method == "boxed_local" => {
            async_in(&mut call.receiver)
        }
        _ => None,
    }
}

fn is_box_pin(function: &Expr) -> bool {
    let Expr::Path(ExprPath { path, .. }) = function else { return false };
    let mut names = path.segments.iter().rev().map(|segment| &segment.ident);
    names.next().is_some_and(|name| name == "pin") && names.next().is_some_and(|name| name == "Box")
}

/// Whether a body returns before its end; what closures and blocks inside it return is theirs.
struct Returns(bool);

impl VisitMut for Returns {
    fn visit_expr_return_mut(&mut self, _: &mut ExprReturn) {
        self.0 = true;
    }

    fn visit_expr_closure_mut(&mut self, _: &mut ExprClosure) {}

    fn visit_expr_async_mut(&mut self, _: &mut ExprAsync) {}

    fn visit_item_mut(&mut self, _: &mut Item) {}
}

/// How this type says that it holds a future, if it does.
pub(crate) fn held(ty: &Type) -> Option<Holds> {
    match ty {
        Type::Paren(inner) => held(&inner.elem),
        Type::Group(inner) => held(&inner.elem),
        Type::ImplTrait(opaque) => future_of(&opaque.bounds).map(|_| Holds::Opaque),
        Type::Path(path) => is_boxed_future(path).then_some(Holds::Boxed),
        _ => None,
    }
}

fn is_boxed_future(path: &TypePath) -> bool {
    let Some(last) = path.path.segments.last() else { return false };
    if last.ident == "BoxFuture" || last.ident == "LocalBoxFuture" {
        return true;
    }
    let pinned = if last.ident == "Pin" { argument(path) } else { None };
    let Some(Type::Path(boxed)) = pinned else { return false };
    let is_box = boxed.path.segments.last().is_some_and(|segment| segment.ident == "Box");
    match if is_box { argument(boxed) } else { None } {
        Some(Type::TraitObject(object)) => future_of(&object.bounds).is_some(),
        Some(Type::ImplTrait(opaque)) => future_of(&opaque.bounds).is_some(),
        _ => false,
    }
}

/// The first type in the angle brackets.
fn argument(path: &TypePath) -> Option<&Type> {
    let PathArguments::AngleBracketed(arguments) = &path.path.segments.last()?.arguments else { return None };
    arguments.args.iter().find_map(|argument| match argument {
        GenericArgument::Type(ty) => Some(ty),
        _ => None,
    })
}

fn future_of(bounds: &Punctuated<TypeParamBound, Token![+]>) -> Option<&TraitBound> {
    bounds.iter().find_map(|bound| match bound {
        TypeParamBound::Trait(bound) if bound.path.segments.last()?.ident == "Future" => Some(bound),
        _ => None,
    })
}

/// What a future of this type comes to; none where an `impl Trait` does not say.
pub(crate) fn output(mut ty: Type) -> Option<Type> {
    let mut opaque = Opaque { is_found: false, output: None };
    opaque.visit_type_mut(&mut ty);
    if opaque.is_found {
        return opaque.output.map(nameable);
    }
    Some(Type::Verbatim(quote!(<#ty as ::core::future::Future>::Output)))
}

/// The first `impl Trait` in a type, and its `Output = ..`.
struct Opaque {
    is_found: bool,
    output: Option<Type>,
}

impl VisitMut for Opaque {
    fn visit_type_mut(&mut self, ty: &mut Type) {
        let Type::ImplTrait(opaque) = ty else { return visit_mut::visit_type_mut(self, ty) };
        self.is_found = true;
        let last = future_of(&opaque.bounds).and_then(|bound| bound.path.segments.last());
        let Some(PathArguments::AngleBracketed(arguments)) = last.map(|segment| &segment.arguments) else { return };
        self.output = arguments.args.iter().find_map(|argument| match argument {
            GenericArgument::AssocType(AssocType { ident, ty, .. }) if ident == "Output" => Some(ty.clone()),
            _ => None,
        });
    }
}

/// The type with `_` for each `impl Trait` in it, which cannot be named inside the function.
pub(crate) fn nameable(mut ty: Type) -> Type {
    Erased.visit_type_mut(&mut ty);
    ty
}

struct Erased;

impl VisitMut for Erased {
    fn visit_type_mut(&mut self, ty: &mut Type) {
        if let Type::ImplTrait(opaque) = ty {
            *ty = Type::Infer(TypeInfer { underscore_token: Token![_](opaque.impl_token.span) });
        } else {
            visit_mut::visit_type_mut(self, ty);
        }
    }
}
