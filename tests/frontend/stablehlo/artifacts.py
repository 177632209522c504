"""Artifacts as their writers made them, with jaxlib 0.10.2: zlib and base 85."""

from __future__ import annotations

import base64
import zlib


def _bytes(text: str) -> bytes:
    return zlib.decompress(base64.b85decode("".join(text.split())))


# programs.SMALL for version 1.0.0 of StableHLO
SMALL = _bytes(r"""
c-n1J-D=xN6rPi#liArp3}Vm@#t0EiFe2Da2quJ3N>etwp$%zTw#%{<Bil-
&u55W_DQPJC3cc@B<Zd5fUuQ3S+au?;2R?o0_d7F#E?)ls+J950(<1xz<>ln|V7Ncr7tkjl2dFVL)^+1ve{Xb%5C6n)t}UB3
8~Uzs1;@Iz5eK?OYjGSK{*C|*M#dT^t(DTmv9w#a9(5grV+Z|X#tTI4QxpJE>_DOeB^|^qju`J8?1T<_9S6INKI55oaKL=Xc
w!ukna3v%jv@!g*1;af1I{a6p}siqIX0{jgzh;K?KtRgrmG2kK!|!$$Gl!V8q)7CeEj1)+U+@{3H#|R>PJbm7Y%xyXcVJr+n
C^yeq^#16e$_Y$C|%U+hV}hRsunSN++NbQodFkaKhK!D1mN3$`D~d<TF8nWW9fp;3`lcz0ZiC)GLe9dq5kLJ&KP7ot_X%I(;
J156+${RETo>87cy0-
*QBxNqPg6nhZa`klWlqfaoDoc=ogAP2@}TejyX6SD`PxuV@@;*X^)+*Kpfu6tv&iBKkk=v;#n@Rb*)?^x0vEAq5J(F<Rs+Y|
?Ujmxlsr-uC(F&`58zImDhB@W`mcBkd^;xaK7kTJ(CP{cQvS@gE)pM$=ADYd@hNOakiy(+Q0ZrcGYd`BL286s1^{^QOo|mDN
qP<R4hf%H_IFmv!r>^Lb0x&2siwTCCD4Yu&q>yx2JFvf8vxt1_L>(sez_my>zEXmeFIZ)TgWSy~h=55$6(4wubh!b){s=e$j
<7hD$UaCI+=vRsJ|>Br%;xxUV-$-G>a)h1D8>!xVcuS;<+7Aap~)l7?gCRSB`o7S25;j&9H=-
>W)m%Yb({Dg1tQeWg3mw({`OZ=Peu4sKu&DA%C+mQ1
""")

# jax.export.export(jax.jit(lambda x, unused, y: {"sum": x + y, "mean": jnp.mean(x)})) of
# bf16[b, 3], i32[2] and bf16[3], serialised
EXPORT = _bytes(r"""
c-oB?-ESO6ea3Th<IU#SthT4)bRF%UuF+*ld}m`Kldp!>wbPJ9PU?oH3f6Y-c5H9GU%lOPVoHS&MJ)n^5JG$jA%qYh1pEW-O
T|MU`q&4a5D$It8|p*F@tfVXeV0<vk$(I8{+zMzcNrn{W#pj&`Z~IYo=3OQO^`f;zJe};{7YyNokL$hPoNG+pGA+O&!flCDR
dIeqYCH|dI?|`AOrX&z?)M52UoB}C(u0Lf6O1lTLA9^d;lO#J_7uVg3#*#9|OE}Li!OjhmH?HvuAEfc8GB)KRgwHdwGutYA^
Vo|9dh4%g<Fxn?FwRxU`XY8Q|}Qjy$USBEY|<{AA8kkN8SFII0cjHg7Y8Zr%Lwx!Pvt4g&G)%?)RNskd~#w}|jE#k7NoO4^#
yXqlbv+5Ym%rK_vgZjcZEwt)ATrfI5{e*kshtExGzsx8%2wU!hYe1QxAvZex7wGFKS7$~(RKdNb(eN!zCrm9Bl6-
_gkp)qE#PPbtg#)`(~{z*-KrOwZ@x~|eLzi^2+m`*4+R;XRSs?xJ{o$<Rb5N5VJ+G&k0=or&JU82kUET-pqAJY}SjOhh>X+d
H7D{s&%fDO7mN3U|@DJk3B;%jyK6mK;7jV4{?8;q{;O_g4w*ZGT>-r!r9-r_E%8-
$48(>vV9bhCyDCiGk1;dl89hJnpa8%@0cdCb$8u)V##POC;<`8IzMzTf5d`4)GG@<Wi<$d7)^T|Vq^E=)zqT^fqKE0Yzdtsl
i=iX;`rDBn>j_xUCzSiy61Hbs;2)M_@a+qh{HrA}=k*&1)zgw_?E!Gx(!b)_V1N<mMk0mcB>n2yu5@mXAXhfsV6bIdBgB#=w
F4eeA?qPLh*=ZHLwDPgVk`;0Jx`MRSJn<~s)+Zn1<Rod&g25A%phQunE)->?fSS6Yx-BqQg+KmNs34&0aDCB8kkOl;-
6INSaZ4i?%tx7<I^>v7@Qe8FHNs~~j87e3!C3RZ8CKK1I*9oJ|8m-
nKP)njNcz%txh(b+;RTc<SsnIf8NUc(k$tEbF&FU>++FUy5q{AwA=;=n4V2aUS^*!>{DvU@|xw+hKb7nT0&35}z+vrn`Hcs0
YR<(w1HWupj<^{81YkIxW)Kq;i_Jhoi(Ee@^qcHZyfk4AJN;5ag;Eznw`(l)nBaw|qk)*cA(NJR7^CTLKV%HnGY3BHm<N0A>
obI}bC_@b0Ohf>Z^$sF8^oP#>@(RaLOcERv5xnuR@bLG2FQ;}yCQU_@`f=o>{x`}5Vd9Poa-
3#y=nUN;$k`J2voPt0d%ffUr63a?dfCs;6r|lh>`?>)LT65PkO=g$`>;1oMd}oNByn&M#-
n7{PeT;KuzJxrbRcc!XHZLeEE|a=@S!i6!YQ*oMB@m8dFWs!aoJ)z4$<Xe_D{~}VZJl`qa&M9!t7>vnA$Xtj+0%SqS5R)VZu
m^M)AlAMVh+6745re3KIgWd@gXga8Xdic8r_{BR5He=YYZy50e-
M8M^SI3ZwhoP`FWd>xhM%z~vUncmR{iBklz8zzv+kmj}N9$;jV_7lW=x$vCs}DpJdfttif{(9MRsR<<jw<7*in+N6mX`rB{=
vfQ4v_7M0?c-FofjD_{&6>G`bjz`u}-=G-z@@K{B4!S+-
Zt6!ndF<^t2;v8l`+r%|i<UduN$)Ri^>Vd!#X2)MXD!=3Yh#c>tC0Sa`M?V@g6*q|uUXrpIGhcdD`zX6Ndkm*CU>^aSv~7^A
ly_~sSws~mL=)Me&36SX-`hq6Z?G;^#hn^n)QoI>L0)B-
fk8Kot$4dy6A=c8Kijy(7Uia0i6VC521ON(+#Y?`da+P_sDO^nEv*6`XB!E=kPCK7?M=|{!ilcr{rhk7vxvu*X+T;0eLXB2g
o0ZVKV;2PI9u;2mhH&5&&uU*p&Qrki7};0|05iSjrbCpKYJGH<{gE<bHJuY57ieqRexqTz{tH$U5ZTiKOLIeze}lA+9wk>b(
u{L@9rF^6C502a`|Vk51;1=Mh8Iocb)iy$A8;%TY?ZbEU29@g!1nuM>IHqxBAGsj1|$Ltj$vdxyP!1aUtGsGv&DSLG~<|7hs
Hm^fcf
""")

# a function of tensor<4xf32> that adds its argument to itself, once by `sdy.sharding_constraint`
# over a mesh of one device, for version 1.10.0 with other dialects allowed
CONSTRAINED = _bytes(r"""
c-lQs%Syvg5WUmM^m-XW2q9cb2(gq>y0FxRxOG(oD;8b4C}|RHAib45>f;Ce3_sCd@MhyM!#OjYvzT+g{(W?x+H_YHx9f-
P>2h(oTr34lC6MxfyZ}i@B$LSu@8%4eIS6d`gB*BTd!*PFP#{SLS`L0FB-S9WG;l~-
1EL0!_9B&KD%9XI;RtX<u8%P=CIHIrFp+T-#}WF-bM%#ugruBr!VQCT-VqetxTrQBN#_|^Bh$G;fFYrE%T*vPA`E43<Q_<Z>
x8I=2n1p^NIa$yg`PiW@0yjr>&mJvjcD>uaoSf$(V4nPtMaSJx7pF0in=L}W}Br=D-OrJs|s-
_n!RZDX`PqmwHGyQotCB*FP+J3f+EfH9_pg)YSXg|@vka!@gWYDh_`N6m6<q86a_%`mGNXeoniC`Th~Ow
""")
